"""The public surface of mien, a line a name, as the program itself tells it.

``python tools/docs.py`` writes it to ``tests/public_surface.txt``; a test compares the two, so that no public name or
parameter comes or goes unseen.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum
from typing import Any

import mien

__all__ = ["lines"]


def lines() -> list[str]:
    """Return one line a public name: functions with their parameters, classes with their members."""
    return [line for name in sorted(mien.__all__) for line in _described(f"mien.{name}", getattr(mien, name))]


def _described(path: str, thing: Any) -> Iterator[str]:
    if inspect.ismodule(thing):
        for name in sorted(thing.__all__):
            yield from _described(f"{path}.{name}", getattr(thing, name))
    elif inspect.isclass(thing) and issubclass(thing, BaseException):
        yield f"{path}({', '.join(b.__name__ for b in thing.__bases__)})"
    elif inspect.isclass(thing):
        yield f"{path}{_parameters(thing)}"
        yield from _members(path, thing)
    elif callable(thing):
        yield f"{path}{_parameters(thing)}"
    else:
        yield path


def _members(path: str, kind: type) -> Iterator[str]:
    if issubclass(kind, Enum):
        yield from (f"{path}.{member.name} = {member.value}" for member in kind)
    for name, member in sorted(vars(kind).items()):
        if name.startswith("_") or isinstance(member, Enum):
            continue
        inner = getattr(member, "__func__", member)
        yield f"{path}.{name}{_parameters(inner) if inspect.isroutine(inner) else ''}"


def _parameters(thing: Any) -> str:
    """Return the parameters without annotations, which are no promise; those of an enumeration are Python's."""
    if inspect.isclass(thing) and issubclass(thing, Enum):
        return ""
    signature = inspect.signature(thing)
    bare = [_bare(p) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))


def _bare(parameter: inspect.Parameter) -> inspect.Parameter:
    # The repr of a whole value would repeat all its fields here, or a place in memory.
    default = parameter.default
    if default is not parameter.empty and not isinstance(default, (str, int, float, tuple, type(None))):
        default = _Value()
    return parameter.replace(annotation=parameter.empty, default=default)


class _Value:
    def __repr__(self) -> str:
        return "..."
