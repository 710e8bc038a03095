"""A report as one page that needs nothing else and runs no script; its numbers are inside it as JSON, too."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from ..render.palette import RGB, colours
from .report import NONE_NAMED, Period, Report, Share, document
from .report_spread import ENOUGH
from .report_when import clock

__all__ = ["embedded", "page", "style", "whole"]

_MANY = 400
_PERSONS = (
    "Tracks are not persons: a face that leaves and comes back, or stands on both sides of a cut, is another track. "
    "Intervals take tracks for independent, so with few persons in many tracks they are too narrow."
)

_WORDS = (
    ("by face-seconds", "Share of the seconds, summed over the faces that were read, in which a face was named so: two "
     "faces for three seconds are six face-seconds, and each counts alike."),
    ("by seconds", "At each moment the share among the faces in view that were read, averaged over the seconds with "
     "such a face: each second counts alike, with one face in view or with thirty."),
    ("none named", "The face was read, and its best score was too low for a label."),
    ("mean scores", "Mean score of each label over the face-seconds that were read, also of those not named."),
    ("tracks", "Faces that were followed without a break, within one shot."),
    ("read", "Share of the face-seconds in which the expression was read; the reasons against it are in their own "
     "table, and a face may have several."),
    ("95 %", "Percentile bootstrap over 1,000 resamples of whole tracks; by seconds, with the number of faces in view "
     f"held as it was. A share of exactly 0 or 1 has Wilson's interval. Fewer than {ENOUGH} tracks: none."),
    ("seconds", "Each frame counts for as long as it was shown, whatever the frame rate and however many frames were "
     "left out."),
)  # fmt: skip


def whole(title: str, styles: str, body: str) -> str:
    """Return a page: ``title`` is text, ``styles`` CSS, ``body`` HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{styles}</style></head><body>{body}</body></html>\n"
    )


def style(name: str) -> str:
    """Return the text of a style or script that lies beside this file."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def embedded(name: str, value: Any) -> str:
    """Return a value as JSON inside a page; nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return f'<script type="application/json" id="{name}">{safe}</script>'


def page(found: Report) -> str:
    """Return a report as one HTML page."""
    title = f"Expressions in {_films(found)}"
    shown = sum(p.seconds for p in found.periods)
    facts = f"by {found.by} · {clock(shown)} shown · intervals are 95 % · no track, picture or person is kept here"
    body = [
        f"<header><h1>{escape(title)}</h1><p class=facts>{escape(facts)}</p></header><main>",
        _first(found),
        _bars(found),
        _shares(found, "Shares by face-seconds, with 95 % intervals", lambda p: p.by_face),
    ]
    if len(found.periods) <= _MANY:
        body += [
            _shares(found, "Shares by seconds", lambda p: p.by_time, folded=True),
            _shares(found, "Mean scores", lambda p: p.scores, folded=True),
            _shares(found, "Change of the shares by face-seconds against the period before", _change, folded=True),
            _unread(found),
        ]
    else:
        body.append("<p class=note>With so many periods, the further tables are in the CSV and JSON files only.</p>")
    words = "".join(f"<dt>{escape(word)}</dt><dd>{escape(text)}</dd>" for word, text in _WORDS)
    body += [
        f"<section><h2>What the numbers mean</h2><dl>{words}</dl></section></main>",
        "<footer>Expressions are what faces show and how people would label them, not what anybody feels.</footer>",
        embedded("report", document(found)),
    ]
    return whole(title, style("report_page.css"), "\n".join(body))


def _films(found: Report) -> str:
    return found.films[0] if len(found.films) == 1 else f"{len(found.films)} films"


def _first(found: Report) -> str:
    lines = [_PERSONS]
    if found.query:
        lines.insert(0, f"Only faces that this query finds count: {found.query}")
    held = sum(bool(p.withheld) for p in found.periods)
    if held:
        lines.insert(0, f"{held} of {len(found.periods)} periods are withheld, whole or in part: too few faces.")
    unreadable = sum(p.unreadable for p in found.periods)
    if unreadable:
        lines.append(f"{unreadable:.1f} s could not be decoded.")
    return f"<section class=first><ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul></section>"


def _bars(found: Report) -> str:
    tints = _tints(found)
    items = "".join(f"<li>{_swatch(tints[name])}{escape(name)}</li>" for name in tints)
    names = ("period", "by face-seconds", "by seconds", "seconds", "faces", "tracks", "read")
    heads = "".join(f"<th scope=col{' class=head' if n.startswith('by') else ''}>{n}</th>" for n in names)
    rows = "".join(_with_film(found, number, _bar_row(p, tints), 7) for number, p in enumerate(found.periods))
    return (
        f"<section><h2>What the faces showed</h2><ul class=legend>{items}</ul>"
        f"<table class=bars><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
        "<p class=note>faces: mean number in view; tracks: separate tracks, not persons.</p></section>"
    )


def _bar_row(period: Period, tints: Mapping[str, RGB | None]) -> str:
    if period.by_face:
        bars = "".join(
            f'<td class=bar data-name="{name}">{_stack(shares, tints)}</td>'
            for name, shares in (("by face-seconds", period.by_face), ("by seconds", period.by_time))
        )
    else:
        bars = f"<td class=withheld colspan=2>{escape(period.withheld or 'no face was read')}</td>"
    cells = (
        ("s", f"{period.seconds:.1f}"),
        ("faces", _two(period.faces)),
        ("tracks", "–" if period.tracks < 0 else f"{period.tracks:,}"),
        ("read", _two(1 - period.unread)),
    )
    numbers = "".join(f'<td data-name="{name}">{text}</td>' for name, text in cells)
    return f"<tr><th scope=row>{escape(period.name)}</th>{bars}{numbers}</tr>"


def _with_film(found: Report, number: int, row: str, columns: int) -> str:
    film = found.periods[number].film
    begins = len(found.films) > 1 and film and (number == 0 or found.periods[number - 1].film != film)
    return f"<tr class=film><td colspan={columns}>{escape(film)}</td></tr>{row}" if begins else row


def _stack(shares: Mapping[str, Share], tints: Mapping[str, RGB | None]) -> str:
    told = ", ".join(f"{name} {share.value:.2f}" for name, share in shares.items() if share.value >= 0.005)
    parts = "".join(_part(name, share.value, tints[name]) for name, share in shares.items() if share.value > 0)
    return f'<div class=stack role=img aria-label="{escape(told)}">{parts}</div>'


def _part(name: str, value: float, tint: RGB | None) -> str:
    return f'<span{_paint(tint, f"width:{100 * value:.2f}%")} title="{escape(name)} {value:.2f}"></span>'


def _tints(found: Report) -> dict[str, RGB | None]:
    tints: dict[str, RGB | None] = {**colours(found.labels.labels)}
    return tints | {NONE_NAMED: None}


def _swatch(tint: RGB | None) -> str:
    return f"<i{_paint(tint, '')}></i>"


def _paint(tint: RGB | None, rest: str) -> str:
    if tint is None:
        return f' class=striped style="{rest}"'
    return f' style="background:rgb({tint[0]} {tint[1]} {tint[2]});{rest}"'


def _shares(found: Report, title: str, of: Callable[[Period], Mapping[str, Share]], *, folded: bool = False) -> str:
    names = list(dict.fromkeys(name for p in found.periods for name in of(p)))
    if not names:
        return ""
    signed = of is _change
    heads = "".join(f"<th scope=col>{escape(n)}</th>" for n in ("period", *names))
    rows = "".join(
        _with_film(found, number, _share_row(p, of(p), names, signed=signed), len(names) + 1)
        for number, p in enumerate(found.periods)
    )
    table = f"<div class=wide><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    if folded:
        return f"<details><summary>{escape(title)}</summary>{table}</details>"
    return f"<section><h2>{escape(title)}</h2>{table}</section>"


def _change(period: Period) -> Mapping[str, Share]:
    return period.change


def _share_row(period: Period, shares: Mapping[str, Share], names: Sequence[str], *, signed: bool) -> str:
    if not shares:
        why = period.withheld or "–"
        cells = f"<td class=withheld colspan={len(names)}>{escape(why)}</td>"
    else:
        cells = "".join(f"<td>{_share(shares[name], signed=signed)}</td>" for name in names)
    return f"<tr><th scope=row>{escape(period.name)}</th>{cells}</tr>"


def _share(share: Share, *, signed: bool) -> str:
    form = "+.2f" if signed else ".2f"
    value = f"{share.value:{form}}"
    if math.isnan(share.low):
        return value
    return f"{value}<small>{share.low:{form}} … {share.high:{form}}</small>"


def _unread(found: Report) -> str:
    names = list(dict.fromkeys(name for p in found.periods for name in p.reasons))
    if not names:
        return ""
    heads = "".join(f"<th scope=col>{escape(n.replace('_', ' '))}</th>" for n in ("period", "not read", *names))
    rows = "".join(
        _with_film(found, number, _unread_row(p, names), len(names) + 2) for number, p in enumerate(found.periods)
    )
    return (
        "<details><summary>Not read: share of the face-seconds, and the reasons</summary><div class=wide><table>"
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _unread_row(period: Period, names: Sequence[str]) -> str:
    shares = [period.unread, *(period.reasons.get(n, math.nan if period.withheld else 0.0) for n in names)]
    return f"<tr><th scope=row>{escape(period.name)}</th>{''.join(f'<td>{_two(s)}</td>' for s in shares)}</tr>"


def _two(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"
