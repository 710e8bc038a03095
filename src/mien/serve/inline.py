"""Pictures inside JSON: as base64, or as addresses."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from .forms import FIELD_BYTES, FIELDS
from .problem import Problem

__all__ = ["Given", "read_json"]

_HINT = 'send {"pictures": [{"name": "a.jpg", "data": "base64…"}], "options": {}}'
# Brackets and commas that a body may have. What is asked for needs a few for each picture, and base64 has none; a body
# of nothing else would become a hundred times as large in memory.
_SIGNS = 4096
_ADDRESS_LENGTH = 2048


@dataclass(frozen=True, slots=True)
class Given:
    """A picture as JSON gave it: its bytes or its address.

    Attributes
    ----------
    name
        As the client gave it; not to be trusted.
    data
        Its bytes.
    url
        Where it is instead.
    """

    name: str
    data: bytes = b""
    url: str | None = None


def read_json(body: bytes, *, pictures: int) -> tuple[list[Given], dict[str, str]]:
    """Read pictures and options from JSON.

    Parameters
    ----------
    body
        ``{"pictures": [{"name"?, "data": base64} | {"name"?, "url"}], "options"?: {name: text, number, bool, list}}``.
    pictures
        How many are allowed.

    Returns
    -------
    given : list of Given
    options : dict of str to str
        A list becomes text with commas, true and false are spelled so, null is left out.

    Raises
    ------
    Problem
        400 for what is no JSON, 413 past a limit, 422 for another shape.
    """
    whole = _parsed(body)
    if not isinstance(whole, dict) or not isinstance(whole.get("pictures"), list):
        raise _wrong("json", "it is not an object with a list of pictures")
    if unknown := set(whole) - {"pictures", "options"}:
        raise _wrong("json", f"it has {len(unknown)} keys besides pictures and options")
    listed: list[Any] = whole["pictures"]
    if len(listed) > pictures:
        hint = "send the others in another request"
        raise Problem(413, "too_many", f"more than {pictures} pictures in one request (pictures)", hint)
    return [_given(n, item) for n, item in enumerate(listed)], _options(whole.get("options"))


def _parsed(body: bytes) -> Any:
    if sum(body.count(sign) for sign in b"[{,") > _SIGNS:
        raise _wrong("json", f"it has more than {_SIGNS} brackets and commas")
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "json", "the body is not JSON", _HINT) from error


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _wrong(code: str, why: str) -> Problem:
    return Problem(422, code, f"the JSON is not what was asked for: {why}", _HINT)


def _given(n: int, item: Any) -> Given:
    where = f"pictures[{n}]"
    if not isinstance(item, dict) or not set(item) <= {"name", "data", "url"} or ("data" in item) == ("url" in item):
        raise _wrong("json", f"{where} must have data or url, and may have a name")
    if not all(isinstance(value, str) for value in item.values()):
        raise _wrong("json", f"{where} has a value that is not text")
    name = item.get("name", "")
    if "url" in item:
        if len(item["url"]) > _ADDRESS_LENGTH:
            raise _wrong("json", f"{where}.url is over {_ADDRESS_LENGTH} characters")
        return Given(name, url=item["url"])
    return Given(name, _unbase64(item["data"], where))


def _unbase64(text: str, where: str) -> bytes:
    head, comma, rest = text.partition(",")
    if comma and head.startswith("data:") and head.endswith(";base64"):
        text = rest
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        hint = "use the standard alphabet (A-Z a-z 0-9 + /), padding, and no line breaks"
        raise Problem(422, "base64", f"{where}.data is not base64", hint) from error


def _options(options: Any) -> dict[str, str]:
    if options is None:
        return {}
    if not isinstance(options, dict) or len(options) > FIELDS:
        raise _wrong("json", f"options is not an object with at most {FIELDS} keys")
    texts = {name: _text(value) for name, value in options.items() if value is not None}
    if any(len(value) > FIELD_BYTES for value in texts.values()):
        raise _wrong("json", f"an option is over {FIELD_BYTES} characters")
    return texts


def _text(value: Any, *, within: bool = False) -> str:
    if isinstance(value, list) and not within:
        return ",".join(_text(each, within=True) for each in value)
    if isinstance(value, bool):
        return str(value).lower()
    # JSON can spell half of a surrogate pair, which no text that is sent on can hold.
    if isinstance(value, str | int | float) and not any("\ud800" <= c <= "\udfff" for c in str(value)):
        return str(value)
    raise _wrong("json", "an option is not text, a number, true, false, or a list of these")
