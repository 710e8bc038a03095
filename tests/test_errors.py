from __future__ import annotations

import copy
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from mien import errors
from mien.errors import (
    DecodeError,
    IntegrityError,
    MienError,
    MissingExtraError,
    OutputError,
    ServiceError,
    ShapeError,
    SourceNotFoundError,
    UnknownLabelError,
    UnknownModelError,
)

CLASSES = [getattr(errors, name) for name in errors.__all__]
MADE = [
    SourceNotFoundError("party.jpg: no such file"),
    OutputError("out.csv: cannot be written"),
    DecodeError("party.jpg: not a picture"),
    ShapeError("boxes", "(N, 4)", (3, 5)),
    UnknownLabelError("smirk", ["happy", "sad"]),
    UnknownModelError("mtnn", ["mtcnn", "haar"]),
    IntegrityError("model.onnx: SHA-256 differs"),
    MissingExtraError("pyarrow", "parquet"),
    ServiceError("no valid token", status=401, code="token", hint="send one"),
]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_in_the_tree_and_documented(kind: type[Exception]) -> None:
    assert issubclass(kind, MienError)
    assert kind.__doc__
    assert kind.__name__ in str(errors.__doc__)


def test_the_tree_in_the_docstring_is_the_tree_in_the_code() -> None:
    """Indentation in the drawing is inheritance in the code."""
    above: dict[int, type[Exception]] = {}
    drawn = []
    for line in str(errors.__doc__).splitlines():
        found = re.match(r"    ([│├└─ ]*)(\w+)(?:\((\w+)\))?(?:  |$)", line)
        if not found or not found[2].endswith("Error"):
            continue
        depth, kind = len(found[1]) // 4, getattr(errors, found[2])
        if depth:
            assert kind.__bases__[0] is above[depth - 1], found[2]
        assert [b.__name__ for b in kind.__bases__[1:]] == ([found[3]] if found[3] else []), found[2]
        above[depth] = kind
        drawn.append(found[2])
    assert sorted(drawn) == errors.__all__


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ShapeError("boxes", "(N, 4)", (3, 5)), "boxes: expected (N, 4), got (3, 5)"),
        (UnknownLabelError("smirk", ["happy", "sad"]), "unknown label 'smirk'; choose one of: happy, sad"),
        (
            UnknownLabelError("nine", ("eight",), what="label set"),
            "unknown label set 'nine'; choose one of: eight",
        ),
        (UnknownModelError("mtnn", ["mtcnn", "haar"]), "unknown model 'mtnn'; choose one of: mtcnn, haar"),
        (
            MissingExtraError("pyarrow", "parquet"),
            "this needs pyarrow, which is not installed; run: pip install 'mien[parquet]'",
        ),
        (SourceNotFoundError("party.jpg: no such file"), "party.jpg: no such file"),
        (OutputError("out.csv: cannot be written"), "out.csv: cannot be written"),
        (ServiceError("no valid token", status=401, code="token", hint="send one"), "no valid token; send one"),
        (ServiceError("no answer", code="unreachable"), "no answer"),
    ],
)
def test_messages_are_one_line_with_the_value(error: MienError, message: str) -> None:
    assert str(error) == message


def test_a_missing_extra_names_its_parts() -> None:
    error = MissingExtraError("pyarrow", "parquet")
    assert (error.package, error.extra) == ("pyarrow", "parquet")


@pytest.mark.parametrize("error", MADE, ids=lambda e: type(e).__name__)
def test_an_error_survives_copying(error: MienError) -> None:
    twin = copy.deepcopy(error)
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert vars(twin) == vars(error)


def test_an_error_comes_out_of_another_process() -> None:
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(UnknownLabelError, match="unknown label 'smirk'"),
    ):
        pool.submit(_fail).result(timeout=60)


def _fail() -> None:
    raise UnknownLabelError("smirk", ["happy"])
