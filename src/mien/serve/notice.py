"""What people who are seen by the service have to be told: the text of the notice, in their language."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pydantic import BaseModel, Field

from .declaration import Declaration
from .settings import ServeSettings
from .texts import Language, texts_in, version

__all__ = ["VARIABLES", "Notice", "Sheet", "duration", "notice_of"]

VARIABLES: Mapping[str, str] = MappingProxyType(
    {"controller": "MIEN_CONTROLLER", "contact": "MIEN_CONTACT", "legal_basis": "MIEN_LEGAL_BASIS"}
)
"""The lines of the notice that only those who run the service can fill, and the environment variables for them."""

_UNITS = (("days", 86_400), ("hours", 3600), ("minutes", 60), ("seconds", 1))


@dataclass(frozen=True, slots=True)
class Sheet:
    """What the service was told for its notice; empty: a line to be filled in by hand.

    Attributes
    ----------
    controller
        Who is responsible.
    contact
        How they are reached.
    legal_basis
        What of Art. 6 (and 9) of the GDPR they rest on.
    """

    controller: str = ""
    contact: str = ""
    legal_basis: str = ""


class Paragraph(BaseModel):
    """One part of the notice."""

    id: str = Field(description="Its name for programs.")
    title: str = Field(description="What it is about.")
    text: str = Field(description="What it says.")


class Notice(BaseModel):
    """What people who are seen have to be told (Art. 50(3) of Regulation (EU) 2024/1689)."""

    language: Language = Field(description="Language of the text.")
    version: str = Field(description="Which wording this is.")
    title: str = Field(description="In large letters.")
    lead: str = Field(description="In one or two sentences.")
    paragraphs: list[Paragraph] = Field(description="What is read, what it is for, how long it is kept, which rights.")
    controller: str | None = Field(description="Who is responsible; null: to be filled in by hand.")
    contact: str | None = Field(description="How they are reached; null: to be filled in by hand.")
    legal_basis: str | None = Field(description="Legal basis under the GDPR; null: to be filled in by hand.")
    blanks: str | None = Field(description="Says that lines are to be filled in by hand; null: none are.")
    law: str = Field(description="Which law asks for it; that it is no legal advice.")


def notice_of(settings: ServeSettings, declaration: Declaration | None, sheet: Sheet, language: Language) -> Notice:
    """Return the notice of a service.

    Parameters
    ----------
    settings
        How long films and results are kept.
    declaration
        What the service is used for; None: not declared, and the notice says so.
    sheet
        Who runs it.
    language
        Which texts.
    """
    texts = texts_in(language)
    told = {
        "what": texts["notice.what"],
        "not": texts["notice.not"],
        "purpose": _purpose(declaration, texts),
        "kept": _kept(settings, language),
        "rights": texts["notice.rights"],
    }
    whole = sheet.controller and sheet.contact and sheet.legal_basis
    return Notice(
        language=language,
        version=version(),
        title=texts["notice.title"],
        lead=texts["notice.lead"],
        paragraphs=[Paragraph(id=k, title=texts[f"notice.{k}.title"], text=v) for k, v in told.items()],
        controller=sheet.controller or None,
        contact=sheet.contact or None,
        legal_basis=sheet.legal_basis or None,
        blanks=None if whole else texts["notice.blanks"],
        law=texts["notice.law"],
    )


def _purpose(declaration: Declaration | None, texts: Mapping[str, str]) -> str:
    if declaration is None:
        return texts["notice.purpose.none"]
    named = texts[f"purpose.{declaration.purpose}"]
    if not declaration.note:
        return texts["notice.purpose"].format(purpose=named)
    return texts["notice.purpose.note"].format(purpose=named, note=declaration.note)


def _kept(settings: ServeSettings, language: Language) -> str:
    texts = texts_in(language)
    films = texts["notice.kept.some" if settings.keep else "notice.kept.none"].format(
        keep=duration(settings.keep, language), hand_over=duration(settings.limits.hand_over, language)
    )
    between = "" if language == "zh" else " "
    return between.join((texts["notice.kept"], films, texts["notice.kept.others"]))


def duration(seconds: float, language: Language) -> str:
    """Write a length of time in whole days, hours, minutes or seconds, never less than it is.

    >>> duration(900, "en"), duration(86_400, "ru"), duration(5400, "zh"), duration(0.5, "en")
    ('15 minutes', '1 день', '90 分钟', '1 second')
    """
    whole = math.ceil(seconds)
    unit, size = next((u, s) for u, s in _UNITS if (whole % s == 0 and whole >= s) or s == 1)
    count = whole // size
    return texts_in(language)[f"duration.{unit}.{_form(count, language)}"].format(n=count)


def _form(count: int, language: Language) -> str:
    """Return the form that a word has beside a number, by the plural rules of Unicode CLDR for whole numbers."""
    if language != "ru":
        return "one" if count == 1 else "many"
    if count % 10 == 1 and count % 100 != 11:
        return "one"
    return "few" if count % 10 in {2, 3, 4} and count % 100 not in {12, 13, 14} else "many"
