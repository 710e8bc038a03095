"""The notice as a sheet of paper: one page of HTML without any script, to be printed on A4 and hung up."""

from __future__ import annotations

from html import escape

from .notice import Notice
from .qr import only_here, svg
from .texts import LANGUAGES, texts_in

__all__ = ["html_of"]

_NAMES = {"en": "English", "zh": "中文", "ru": "Русский"}
_TAGS = {"en": "en", "zh": "zh-Hans", "ru": "ru"}

# Drawn for this sheet: a face within the frame of a finder, read by dots, and three bars as what is read.
_PICTOGRAM = """<svg class="pictogram" viewBox="0 0 120 84" role="img" aria-labelledby="drawn">
<title id="drawn">{}</title>
<g fill="none" stroke="#12383d" stroke-width="5" stroke-linecap="round" stroke-linejoin="round">
<path d="M4 20V10a6 6 0 0 1 6-6h10M58 4h10a6 6 0 0 1 6 6v10M74 64v10a6 6 0 0 1-6 6H58M20 80H10a6 6 0 0 1-6-6V64"/>
<circle cx="39" cy="42" r="25" fill="#fff"/><path d="M28 49c5 8 17 8 22 0"/></g>
<g fill="#12383d"><circle cx="30.5" cy="36" r="3.6"/><circle cx="47.5" cy="36" r="3.6"/>
<circle cx="80" cy="42" r="1.8"/><circle cx="86" cy="42" r="1.8"/><circle cx="92" cy="42" r="1.8"/></g>
<g fill="#c4501b"><rect x="98" y="25" width="18" height="8" rx="2"/><rect x="98" y="38" width="11" height="8" rx="2"/>
<rect x="98" y="51" width="6" height="8" rx="2"/></g></svg>"""

_PAGE = """<!doctype html>
<html lang="{tag}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title}</title>
<link rel="icon" href="favicon.svg">
<link rel="stylesheet" href="web/notice.css">
</head>
<body>
<nav aria-label="{other}">{languages}<p>{hint}</p></nav>
<main>
<header>{pictogram}<div><h1>{title}</h1><p class="lead">{lead}</p></div></header>
{parts}
<section class="responsible"><h2>{responsible}</h2><div>{lines}</div></section>
<footer>{code}<div><p class="law">{law}</p><p class="version">mien · {version}</p></div></footer>
</main>
</body>
</html>
"""


def html_of(notice: Notice, address: str) -> str:
    """Lay a notice out as a page; everything in it is escaped.

    Parameters
    ----------
    notice
        What it says.
    address
        Of the service, for the QR code of this very page; none is drawn for an address that others cannot reach.
    """
    texts = texts_in(notice.language)
    return _PAGE.format(
        tag=_TAGS[notice.language],
        title=escape(notice.title),
        other=escape(texts["notice.other"]),
        languages=_languages(notice),
        hint=_hint(notice, address),
        pictogram=_PICTOGRAM.format(escape(texts["notice.picture"])),
        lead=escape(notice.lead),
        parts="\n".join(
            f'<section class="{escape(p.id)}"><h2>{escape(p.title)}</h2><p>{escape(p.text)}</p></section>'
            for p in notice.paragraphs
        ),
        responsible=escape(texts["notice.responsible.title"]),
        lines=_lines(notice),
        code=_code(notice, address),
        law=escape(notice.law),
        version=escape(notice.version),
    )


def _languages(notice: Notice) -> str:
    current = ' aria-current="page"'
    links = (
        f'<a href="notice?lang={each}" hreflang="{_TAGS[each]}" lang="{_TAGS[each]}"'
        f"{current if each == notice.language else ''}>{_NAMES[each]}</a>"
        for each in LANGUAGES
    )
    return f"<p>{' '.join(links)}</p>"


def _hint(notice: Notice, address: str) -> str:
    texts = texts_in(notice.language)
    said = [texts["notice.print"], notice.blanks or "", texts["notice.local"] if only_here(address) else ""]
    return escape(("" if notice.language == "zh" else " ").join(filter(None, said)))


def _lines(notice: Notice) -> str:
    texts = texts_in(notice.language)
    values = {"controller": notice.controller, "contact": notice.contact, "legal_basis": notice.legal_basis}
    written = {n: f"<b>{escape(v)}</b>" if v else '<b class="blank"></b>' for n, v in values.items()}
    return "".join(
        f'<p class="line"><span>{escape(texts[f"notice.{name}"])}</span> {value}</p>' for name, value in written.items()
    )


def _code(notice: Notice, address: str) -> str:
    if only_here(address):
        return ""
    caption = escape(texts_in(notice.language)["notice.qr"])
    return f"<figure>{svg(f'{address}/notice?lang={notice.language}')}<figcaption>{caption}</figcaption></figure>"
