"""The errors of mien, one small tree. Each is also the builtin that one would expect.

::

    MienError
    ├── SourceError(ValueError)              an input cannot be used
    │   ├── SourceNotFoundError(FileNotFoundError)
    │   ├── DecodeError                      its bytes are not a readable picture or film
    │   └── TooLargeError                    more pixels than the limit allows
    ├── ShapeError(ValueError)               an array of the wrong shape or dtype
    ├── UnknownLabelError(ValueError)        a label or label set that does not exist
    ├── OptionError(ValueError)              an option with an impossible value
    ├── OutputError(OSError)                 a result cannot be written
    ├── ResumeError(ValueError)              an unfinished run does not fit this one
    ├── DataError(ValueError)                a data set cannot be used
    ├── ModelError(RuntimeError)
    │   ├── UnknownModelError(LookupError)   no card of that name
    │   ├── IntegrityError                   a weights file is not the one its card names
    │   └── MissingExtraError(ImportError)   an optional dependency is not installed
    └── ServiceError(RuntimeError)           a service that was asked refused, failed or did not answer

Every message says what was wrong, with the value, and what to do, in one line. Errors can be copied and sent to another
process, whatever their constructor takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = [
    "DataError",
    "DecodeError",
    "IntegrityError",
    "MienError",
    "MissingExtraError",
    "ModelError",
    "OptionError",
    "OutputError",
    "ResumeError",
    "ServiceError",
    "ShapeError",
    "SourceError",
    "SourceNotFoundError",
    "TooLargeError",
    "UnknownLabelError",
    "UnknownModelError",
]


class MienError(Exception):
    """Any error that mien raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with the finished message, which is not what the constructors below take; a pool
        # of processes would then hang on the error of a worker.
        return _rebuild, (type(self), self.args), self.__dict__


def _rebuild(kind: type[MienError], args: tuple[object, ...]) -> MienError:
    error: MienError = (OSError if issubclass(kind, OSError) else Exception).__new__(kind)
    error.args = args
    return error


class SourceError(MienError, ValueError):
    """An input cannot be used."""


class SourceNotFoundError(SourceError, FileNotFoundError):
    """An input does not exist."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class DecodeError(SourceError):
    """The bytes of an input are not a picture or film that can be read."""


class TooLargeError(SourceError):
    """An input has more pixels than the limit allows."""


class ShapeError(MienError, ValueError):
    """An array has the wrong shape or dtype; the message names what was expected and what came."""

    def __init__(self, what: str, expected: str, got: object) -> None:
        super().__init__(f"{what}: expected {expected}, got {got}")


class UnknownLabelError(MienError, ValueError):
    """A label or a label set that does not exist."""

    def __init__(self, name: object, known: Iterable[str], *, what: str = "label") -> None:
        super().__init__(f"unknown {what} {name!r}; choose one of: {', '.join(known)}")


class OptionError(MienError, ValueError):
    """An option has a value that it cannot have."""


class OutputError(MienError, OSError):
    """A result cannot be written."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class ResumeError(MienError, ValueError):
    """An unfinished run on disk does not fit the run that was asked for."""


class DataError(MienError, ValueError):
    """A data set cannot be used."""


class ModelError(MienError, RuntimeError):
    """A model cannot be used."""


class UnknownModelError(ModelError, LookupError):
    """No card of that name in the catalog."""

    def __init__(self, name: object, known: Sequence[str]) -> None:
        super().__init__(f"unknown model {name!r}; choose one of: {', '.join(known)}")


class IntegrityError(ModelError):
    """A weights file is not the one its card names."""


class MissingExtraError(ModelError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs {package}, which is not installed; run: pip install 'mien[{extra}]'")
        self.package = package
        self.extra = extra


class ServiceError(MienError, RuntimeError):
    """A service that was asked over the network refused, failed or did not answer.

    Attributes
    ----------
    status
        The HTTP status of its answer; None: there was none.
    code
        One word for programs, as the service gives it; ``unreachable`` or ``timeout`` where it did not answer.
    hint
        What to do; None: it does not say.
    """

    def __init__(self, message: str, *, code: str, status: int | None = None, hint: str | None = None) -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.status, self.code, self.hint = status, code, hint
