"""The wording of purposes, of the notice and of what is stored, one file per language in ``web/texts``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal, get_args

__all__ = ["LANGUAGES", "Language", "preferred", "texts_in", "version"]

Language = Literal["en", "zh", "ru"]
LANGUAGES: tuple[Language, ...] = get_args(Language)


@cache
def texts_in(language: Language) -> Mapping[str, str]:
    """Return the texts of the policy in a language, by key."""
    file = files(__package__) / "web" / "texts" / f"{language}.json"
    texts: dict[str, str] = json.loads(file.read_text("utf-8"))["policy"]
    return texts


@cache
def version() -> str:
    """Return which wording this is: the beginning of a hash of the texts of all languages."""
    held = json.dumps([texts_in(each) for each in LANGUAGES], sort_keys=True)
    return hashlib.sha256(held.encode()).hexdigest()[:12]


def preferred(accept: str) -> Language:
    """Return the language of ours that a browser likes best, by its header ``Accept-Language``; English otherwise.

    >>> preferred("de;q=0.9, zh-CN;q=0.8, en;q=0.5"), preferred("")
    ('zh', 'en')
    """
    best: tuple[float, Language] = (0.0, "en")
    for part in accept[:500].split(","):
        tag, _, weight = part.strip().partition(";")
        primary = tag.strip().split("-")[0].lower()
        for language in LANGUAGES:
            if primary == language and (share := _share(weight)) > best[0]:
                best = share, language
    return best[1]


def _share(weight: str) -> float:
    try:
        return float(weight.strip().removeprefix("q=")) if weight.strip() else 1.0
    except ValueError:
        return 0.0
