"""A timeline as one page that needs nothing else: style, script, pictures and numbers are inside it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from .report_page import embedded, style, whole
from .report_when import clock
from .timeline_curves import TICKS

__all__ = ["page"]

_HELP = (
    ("Show a moment", "click a lane, or Enter"),
    ("Go along a lane", "← →, with Shift by ten"),
    ("Go to another lane", "↑ ↓"),
    ("Zoom", "+ −, Ctrl and the wheel, two fingers; the wheel alone above the overview"),
    ("Move", "drag, or Shift and the wheel; A D"),
    ("Whole film, this track", "0, T"),
    ("Next, last mark", "N, P"),
)


def page(document: Mapping[str, Any]) -> str:
    """Return a timeline's document as an HTML page."""
    film, tracks = document["film"], document["tracks"]
    title = f"Expressions over time in {film['name']}"
    facts = [f"{clock(film['length'] / TICKS)}", f"{len(tracks):,} tracks", f"{len(document['shots']):,} shots"]
    if document["smooth"] != "none":
        facts.append(f"scores smoothed: {document['smooth']}")
    if document["query"]:
        facts.append(f"marked: {document['query']} ({len(document['spans']):,})")
    notes = "".join(f"<li>{escape(note)}</li>" for note in document["notes"])
    body = [
        f"<header><h1>{escape(title)}</h1><p class=facts>{escape(' · '.join(facts))}</p>",
        f"<ul class=notes>{notes}</ul>" if notes else "",
        "<noscript><p class=first>The lanes need a script, which is inside this page; the table below does not."
        "</p></noscript></header><main>",
        f"<div class=desk><section class=lanes aria-label='Lanes of the tracks'>{_tools(document)}"
        "<p class=note id=shown aria-live=polite></p><ol id=lanes></ol><p><button id=all hidden></button></p>"
        "</section>",
        "<aside id=moment aria-label='The moment that was chosen' hidden><div class=row><h2 id=when></h2>"
        "<button id=close aria-label='Close the moment'>×</button></div><div id=picture></div>"
        "<p class=note id=source></p><div class=row id=steps><button id=back>‹ frame</button>"
        "<button id=play hidden>play</button><button id=forth>frame ›</button></div>"
        "<div id=scores aria-live=polite></div></aside></div>",
        _help(),
        _table(document),
        "</main><footer>Expressions are what faces show and how people would label them, not what anybody feels. A "
        "track is a face followed without a break, not a person.</footer><div id=tip hidden></div>",
        embedded("timeline", document),
        f"<script>{style('timeline_page.js')}</script>",
    ]
    return whole(title, style("report_page.css") + style("timeline_page.css"), "\n".join(body))


def _tools(document: Mapping[str, Any]) -> str:
    items = "".join(
        f"<li><i style='background:rgb({r} {g} {b})'></i>{escape(name)}</li>"
        for name, (r, g, b) in zip(document["labels"], document["colours"], strict=True)
    )
    marks = ""
    if document["spans"]:
        marks = "<button id=before aria-label='last mark'>‹ mark</button><button id=next>mark ›</button>"
    return (
        f"<ul class=legend>{items}<li><i class=striped></i>not read</li></ul>"
        "<div class=tools><div class=row><button id=out aria-label='zoom out'>−</button>"
        "<button id=in aria-label='zoom in'>+</button><button id=left aria-label='earlier'>‹</button>"
        "<button id=right aria-label='later'>›</button><button id=fit>whole film</button>"
        f"{marks}<output id=view></output></div>"
        "<div class=lane><span class=head>whole film</span><canvas id=overview role=img "
        "aria-label='The whole film, the mean of all faces; drag to choose what the lanes show'></canvas></div>"
        "<div class=lane><span class=head id=rule></span><canvas id=axis aria-hidden=true></canvas></div></div>"
    )


def _help() -> str:
    words = "".join(f"<dt>{escape(what)}</dt><dd>{escape(how)}</dd>" for what, how in _HELP)
    return f"<details><summary>Mouse and keys</summary><dl class=keys>{words}</dl></details>"


def _table(document: Mapping[str, Any]) -> str:
    labels = document["labels"]
    names = ("track", "shot", "start", "end", "seconds", "read", "top", *labels)
    heads = "".join(f"<th scope=col>{escape(n)}</th>" for n in names)
    rows = "".join(_row(t, document["film"]["origin"]) for t in document["tracks"])
    return (
        f"<details><summary>Table of the {len(document['tracks']):,} tracks, with mean scores</summary>"
        f"<div class=wide><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _row(track: Mapping[str, Any], origin: float) -> str:
    start, end = track["start"] / TICKS + origin, track["end"] / TICKS + origin
    read = track["read"] / track["rows"] if track["rows"] else 0.0
    fixed = (track["shot"], _fine(start), _fine(end), f"{end - start:.2f}", f"{read:.2f}", track["top"] or "–")
    cells = [str(c) for c in fixed] + ["–" if m is None else f"{m:.2f}" for m in track["mean"]]
    return f"<tr><th scope=row>{track['id']}</th>{''.join(f'<td>{escape(c)}</td>' for c in cells)}</tr>"


def _fine(seconds: float) -> str:
    hundredths = round(seconds * 100)
    return f"{clock(hundredths // 100)}.{hundredths % 100:02d}"
