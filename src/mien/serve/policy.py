"""What the service is used for, what it is not, and what people who are seen by it have to be told."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from ..errors import OptionError
from . import problem
from .declaration import Declaration, Record
from .guard import needs
from .notice import VARIABLES, Notice, Sheet, notice_of
from .problem import Problem
from .purposes import NOTE_CHARACTERS, NOTE_WORDS, PURPOSES, Purpose, clean_note, field_named_by, note_long_enough
from .service import service
from .settings import ServeSettings
from .stored import router as stored_router
from .texts import Language, texts_in, version
from .tokens import Caller, Role

__all__ = ["Policy", "check", "declared", "router"]

router = APIRouter()
_log = logging.getLogger("mien.serve")
_ASK = "declare it on the page, or start with --purpose"


class Policy:
    """The declared purpose of one service, kept in ``state/policy.json``.

    Parameters
    ----------
    settings
        With ``purpose``, that one holds and nobody can change it over the page.
    environ
        ``MIEN_PURPOSE_NOTE`` describes that purpose; ``MIEN_CONTROLLER``, ``MIEN_CONTACT`` and ``MIEN_LEGAL_BASIS``
        fill the lines of the notice. None: the environment of the process.

    Raises
    ------
    OptionError
        If that purpose does not exist or is refused, with the reason, or if one of the variables cannot be used.
    """

    def __init__(self, settings: ServeSettings, *, environ: Mapping[str, str] | None = None) -> None:
        self.settings = settings
        chosen = os.environ if environ is None else environ
        self.sheet = Sheet(**{field: _variable(chosen, name) for field, name in VARIABLES.items()})
        self._record = Record(settings.state / "policy.json")
        self._fixed = None if settings.purpose is None else _fixed(settings.purpose, chosen)

    @property
    def purpose(self) -> str | None:
        """The declared purpose; None: not declared yet."""
        held = self.declaration
        return held.purpose if held else None

    @property
    def declaration(self) -> Declaration | None:
        """What was declared, by the settings or over the page."""
        return self._fixed or self._record.read()

    @property
    def fixed(self) -> bool:
        """The settings say it, so that the page cannot change it."""
        return self._fixed is not None

    def declare(self, purpose: str, note: str, by: str, language: Language = "en") -> Declaration:
        """Keep a purpose; reasons against it are given in this language.

        Raises
        ------
        Problem
            403 for a refused purpose or a note that names one, 409 when the settings say the purpose, 422 for one that
            does not exist or a note that cannot be used, 500 when it cannot be written.
        """
        self._may_change()
        text = _usable(purpose, note, language)
        made = Declaration(purpose=purpose, note=text, time=_now(), by=by, notice_version=version())
        try:
            self._record.write(made)
        except OSError as error:
            raise _unwritten(error) from error
        _log.info("purpose declared: %s", purpose)
        return made

    def withdraw(self) -> None:
        """Forget the purpose: nothing is read until one is declared again.

        Raises
        ------
        Problem
            409 when the settings say the purpose, 500 when it cannot be removed.
        """
        self._may_change()
        try:
            self._record.erase()
        except OSError as error:
            raise _unwritten(error) from error
        _log.info("purpose withdrawn")

    def _may_change(self) -> None:
        if self._fixed:
            raise Problem(
                409,
                "purpose_fixed",
                f"the purpose {self._fixed.purpose!r} was given when the service was started",
                "start it without --purpose and MIEN_PURPOSE to declare one here",
            )


def check(policy: Policy) -> None:
    """Let faces be read only when a purpose is declared.

    Raises
    ------
    Problem
        403.
    """
    if policy.purpose is None:
        raise Problem(403, "purpose", "no purpose is declared", _ASK)


async def declared(request: Request) -> None:
    """Let a route be used only when a purpose is declared: dependency of every route that reads faces; else 403."""
    check(service(request).policy)


def _variable(environ: Mapping[str, str], name: str) -> str:
    try:
        return clean_note(environ.get(name, ""))
    except ValueError as error:
        msg = f"{name}: {error}"
        raise OptionError(msg) from error


def _fixed(purpose: str, environ: Mapping[str, str]) -> Declaration:
    try:
        note = _usable(purpose, _variable(environ, "MIEN_PURPOSE_NOTE"))
    except Problem as error:
        where = "MIEN_PURPOSE_NOTE: " if error.code.startswith("note") else ""
        msg = f"purpose {purpose!r}: {where}{error}{f' {error.hint}' if error.hint else ''}"
        raise OptionError(msg) from error
    return Declaration(purpose=purpose, note=note, time=_now(), by="settings", notice_version=version())


def _usable(name: str, note: str, language: Language = "en") -> str:
    """Return the note without blanks around it if the purpose may be declared with it."""
    purpose = PURPOSES.get(name)
    if purpose is None:
        known = ", ".join(p.name for p in PURPOSES.values() if p.allowed)
        raise Problem(422, "unknown_purpose", "there is no such purpose.", f"It is one of {known}.")
    if not purpose.allowed:
        raise _refused(name, language)
    try:
        text = clean_note(note)
    except ValueError as error:
        raise Problem(422, "note", str(error)) from error
    if name == "other" and not note_long_enough(text):
        raise Problem(422, "note", texts_in(language)["refused.short"].format(count=NOTE_WORDS))
    if named := field_named_by(text, purpose.may_name):
        raise _refused(named[0], language, named[1])
    return text


def _refused(name: str, language: Language, word: str | None = None) -> Problem:
    """Return the answer to a refused purpose, or to a note in which a word names it."""
    texts = texts_in(language)
    code, before = "purpose_refused", ""
    if word is not None:
        code, before = "note_refused", texts["refused.note"].format(word=word, purpose=texts[f"purpose.{name}"]) + " "
    reason = f"{before}{texts[f'purpose.{name}.reason']} ({'; '.join(PURPOSES[name].law)})"
    allowed = ", ".join(p.name for p in PURPOSES.values() if p.allowed)
    return Problem(403, code, reason, texts["refused.hint"].format(purposes=allowed))


def _unwritten(error: OSError) -> Problem:
    _log.error("policy.json cannot be changed: %s", type(error).__name__)
    return Problem(500, "state", "the declaration could not be kept", "look at the state folder of the service")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class PurposeShown(BaseModel):
    """One use of the service."""

    id: str = Field(description="Its name for programs.")
    title: str = Field(description="What it is called in the language asked for.")
    allowed: bool = Field(description="Whether faces are read for it.")
    reason: str | None = Field(description="Why it is refused, or under which conditions it is allowed.")
    ground: Literal["law", "choice"] | None = Field(
        description="Refused by the law of the European Union or by mien's own choice; null: allowed."
    )
    law: list[str] = Field(description="Where the law speaks of it.")


class PolicyShown(BaseModel):
    """What the service is used for and what it refuses."""

    purpose: str | None = Field(description="The declared purpose; null: none yet, so no face is read.")
    note: str | None = Field(description="What it is, in the words of whoever declared it.")
    declared: str | None = Field(description="When it was declared, ISO 8601, UTC.")
    fixed: bool = Field(description="It was given when the service was started and cannot be changed here.")
    purposes: list[PurposeShown] = Field(description="Every use that is told apart, the allowed ones first.")
    keep_seconds: float = Field(description="How long films and results are kept after a job.")
    note_characters: int = Field(description="How long a note may be.")
    notice_version: str = Field(description="Which wording of the notice this is.")
    declared_version: str | None = Field(description="Which wording there was when the purpose was declared.")


class DeclarationAsked(BaseModel):
    """A purpose to be declared."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"purpose": "film", "note": ""}]})
    purpose: str = Field(max_length=40, description="A purpose that is allowed.")
    note: str | None = Field(
        None,
        max_length=NOTE_CHARACTERS,
        description=f"What it is for and who is seen; for the purpose other, at least {NOTE_WORDS} words.",
    )


LanguageAsked = Annotated[Language, Query(description="Language of the texts.")]


def _shown(purpose: Purpose, texts: Mapping[str, str]) -> PurposeShown:
    return PurposeShown(
        id=purpose.name,
        title=texts[f"purpose.{purpose.name}"],
        allowed=purpose.allowed,
        reason=texts[f"purpose.{purpose.name}.reason"],
        ground=purpose.ground,
        law=list(purpose.law),
    )


def _policy_shown(policy: Policy, language: Language) -> PolicyShown:
    held = policy.declaration
    return PolicyShown(
        purpose=held.purpose if held else None,
        note=(held.note or None) if held else None,
        declared=held.time if held else None,
        fixed=policy.fixed,
        purposes=[_shown(p, texts_in(language)) for p in PURPOSES.values()],
        keep_seconds=policy.settings.keep,
        note_characters=NOTE_CHARACTERS,
        notice_version=version(),
        declared_version=held.notice_version if held else None,
    )


@router.get("/v1/policy", operation_id="getPolicy", tags=["policy"], responses=problem.responses(400, 403, 421, 422))
def show_policy(request: Request, lang: LanguageAsked = "en") -> PolicyShown:
    """Say what the service is used for, which uses it allows and which it refuses, each with the reason.

    Needs no token, since it is for the people who are seen, too. The reasons are not legal advice.
    """
    return _policy_shown(service(request).policy, lang)


@router.post(
    "/v1/policy",
    operation_id="declarePurpose",
    tags=["policy"],
    responses=problem.responses(400, 401, 403, 409, 413, 421, 422, 429, 500),
)
def declare_purpose(
    request: Request,
    asked: DeclarationAsked,
    caller: Annotated[Caller, Depends(needs(Role.ADMIN))],
    lang: LanguageAsked = "en",
) -> PolicyShown:
    """Declare what the service is used for; until then it reads no face.

    A refused purpose, or a note that names one, is answered with 403 and the reason; 409 when the purpose was given as
    the service was started.
    """
    policy = service(request).policy
    policy.declare(asked.purpose, asked.note or "", caller.name, lang)
    return _policy_shown(policy, lang)


@router.delete(
    "/v1/policy",
    operation_id="withdrawPurpose",
    tags=["policy"],
    status_code=204,
    dependencies=[Depends(needs(Role.ADMIN))],
    responses=problem.responses(400, 401, 403, 409, 421, 429, 500),
)
def withdraw_purpose(request: Request) -> None:
    """Take the declared purpose back and erase its file: no face is read until one is declared again."""
    service(request).policy.withdraw()


@router.get("/v1/notice", operation_id="getNotice", tags=["policy"], responses=problem.responses(400, 403, 421, 422))
def show_notice(request: Request, lang: LanguageAsked = "en") -> Notice:
    """Give the notice that people who are seen have to be shown, as text.

    Needs no token, since it is for them. ``/notice`` is the same as a sheet to print.
    """
    held = service(request)
    return notice_of(held.settings, held.policy.declaration, held.policy.sheet, lang)


router.include_router(stored_router)
