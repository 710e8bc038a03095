"""What holds for the whole tree: who imports whom, what importing costs, what every file and card must have."""

from __future__ import annotations

import ast
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
import tokenize
from pathlib import Path
from typing import Any

import pytest

import mien
from mien.zoo import catalog
from mien.zoo.card import ModelCard

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src" / "mien").rglob("*.py"))
ALL = sorted(f for folder in ("src", "tests", "tools", "benchmarks") for f in (ROOT / folder).rglob("*.py"))
# Training needs torch, which only its own environment has.
MODULES = ["mien"] + [
    m.name
    for m in pkgutil.walk_packages(mien.__path__, "mien.", onerror=lambda _: None)
    if not m.name.startswith("mien.train.")
]
HEAVY = [
    "duckdb",
    "cv2",
    "av",
    "onnxruntime",
    "pandas",
    "pyarrow",
    "matplotlib",
    "torch",
    "rich",
    "typer",
    "joblib",
    "mtcnn",
]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def run(code: str, *arguments: str, cwd: Path) -> Any:
    """Run code in a fresh Python in a folder of its own; return the JSON that it prints."""
    environment = os.environ | {"HOME": str(cwd), "XDG_CACHE_HOME": str(cwd / ".cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = str(Path(os.environ["PYTHONPATH"]).resolve())
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_imports_flow_one_way() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_importing_mien_loads_little(tmp_path: Path) -> None:
    loaded = run("import json, sys, mien; print(json.dumps(sorted(sys.modules)))", cwd=tmp_path)
    assert "mien" in loaded
    assert set(HEAVY).isdisjoint(loaded)


def test_every_public_name_is_there() -> None:
    assert sorted(mien.__all__) == mien.__all__
    assert {"Analyzer", "Faces", "LabelSet", "Reason", "analyze", "compat", "errors", "stream"} <= set(mien.__all__)
    assert set(dir(mien)) >= set(mien.__all__)
    for public in mien.__all__:
        assert getattr(mien, public) is not None
    with pytest.raises(AttributeError, match="no attribute 'emotion'"):
        mien.emotion  # noqa: B018 - reading it is the test


_IMPORT_ALL = """
import importlib, json, logging, os, pathlib, sys, warnings
import numpy, cv2, av, onnxruntime, joblib, lz4.frame, typer, rich.progress
def state():
    return [dict(os.environ), [str(f) for f in warnings.filters], sorted(map(str, pathlib.Path().rglob("*"))),
            len(logging.getLogger().handlers), numpy.random.get_state()[1].tolist(), cv2.getNumThreads(), os.getcwd()]
before = state()
for module in sys.argv[1:]:
    importlib.import_module(module)
after = state()
names = ["environment", "warning filters", "files", "log handlers", "random state", "OpenCV's threads", "folder"]
print(json.dumps([n for n, a, b in zip(names, before, after) if a != b]))
"""


def test_importing_every_module_changes_nothing(tmp_path: Path) -> None:
    assert len(MODULES) > 20
    assert run(_IMPORT_ALL, *MODULES, cwd=tmp_path) == []


_READ_A_FACE = """
import json, os, pathlib
os.environ["TMPDIR"] = str(pathlib.Path().resolve())
import numpy, mien
mien.Expression().read(numpy.zeros((1, 48, 48, 3), numpy.uint8))
mien.analyze(numpy.zeros((64, 64, 3), numpy.uint8))
print(json.dumps([sorted(map(str, pathlib.Path().rglob("*"))), "ORT_DISABLE_TELEMETRY" in os.environ]))
"""


def test_reading_a_face_leaves_nothing_behind(tmp_path: Path) -> None:
    # ONNX Runtime writes a number for the machine and a file of events unless it is kept from it.
    assert run(_READ_A_FACE, cwd=tmp_path) == [[], False]


def test_optional_libraries_are_loaded_where_they_are_used(tmp_path: Path) -> None:
    code = "import json, sys; [__import__(m) for m in sys.argv[1:]]; print(json.dumps([*sys.modules]))"
    loaded = set(run(code, *MODULES, cwd=tmp_path))
    assert loaded.isdisjoint({"pandas", "pyarrow", "matplotlib", "torch", "lightning", "PIL", "tensorflow", "mtcnn"})


CARDS = [catalog.card(n) for n in catalog.names()]


@pytest.mark.parametrize("card", CARDS, ids=lambda c: c.name)
def test_every_card_says_what_it_must(card: ModelCard) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", card.sha256)
    assert card.size > 0
    for fact in ("task", "licence", "origin", "data", "summary", "file"):
        assert getattr(card, fact).strip(), f"{card.name} has no {fact}"


@pytest.mark.parametrize("card", [c for c in CARDS if c.labels], ids=lambda c: c.name)
def test_a_card_with_labels_says_how_good_it_is(card: ModelCard) -> None:
    assert card.input is not None
    assert card.scores
    for score in card.scores:
        assert score.n > 0
        assert score.low <= score.value <= score.high


def test_the_card_names_are_unique() -> None:
    assert len(set(catalog.names())) == len(catalog.names()) >= 6


def test_the_wheel_brings_what_is_no_code() -> None:
    ours, installed = data_files(ROOT / "src" / "mien"), data_files(Path(mien.__file__).parent)
    assert "py.typed" in ours
    assert installed == ours


def data_files(package: Path) -> list[str]:
    found = [f for f in package.rglob("*") if f.is_file() and f.suffix not in {".py", ".pyc"}]
    return sorted(str(f.relative_to(package)) for f in found)


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_rooms_are_named_for_subjects(path: Path) -> None:
    parts = set(path.relative_to(ROOT / "src").with_suffix("").parts)
    # The roles of models are `models/base.py`, as the design says.
    forbidden = {"utils", "util", "common", "helpers", "helper", "core", "misc", "manager"}
    assert parts.isdisjoint(forbidden | (set() if path.parent.name == "models" else {"base"}))


_SILENCER = re.compile(r"#\s*(?:type:\s*ignore|noqa|pragma:|ruff:)")
_REASONED = (
    re.compile(r"# type: ignore\[[\w, -]+\]  # \w+"),
    re.compile(r"# noqa: [A-Z]+\d+(?:, ?[A-Z]+\d+)* (?: ?#|-|–|\() ?\w+"),
    re.compile(r"# pragma: no (?:cover|branch)  ?\S* ?\w+"),
)


def comments(path: Path) -> list[tuple[int, str]]:
    with path.open("rb") as file:
        return [(t.start[0], t.string) for t in tokenize.tokenize(file.readline) if t.type == tokenize.COMMENT]


@pytest.mark.parametrize("path", ALL, ids=name)
def test_each_silencing_has_its_code_and_its_reason(path: Path) -> None:
    silenced = [(line, text) for line, text in comments(path) if _SILENCER.search(text)]
    bare = [f"{line}: {text}" for line, text in silenced if not any(r.search(text) for r in _REASONED)]
    assert not bare


@pytest.mark.parametrize("path", ALL, ids=name)
def test_a_file_can_be_read_in_one_sitting(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= 500


@pytest.mark.parametrize("path", [p for p in SOURCES if "cli" not in p.parts], ids=name)
def test_only_the_command_line_prints(path: Path) -> None:
    calls = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    assert not [n.lineno for n in calls if isinstance(n.func, ast.Name) and n.func.id == "print"]


def undocumented(body: list[ast.stmt], prefix: str = "") -> list[str]:
    """Public functions, classes and methods without a docstring; an overload's is that of the whole."""
    missing = []
    for node in body:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) or node.name.startswith("_"):
            continue
        if any(isinstance(d, ast.Name) and d.id == "overload" for d in node.decorator_list):
            continue
        if not ast.get_docstring(node):
            missing.append(prefix + node.name)
        if isinstance(node, ast.ClassDef):
            missing += undocumented(node.body, f"{prefix}{node.name}.")
    return missing


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_what_is_public_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the module itself"
    assert not undocumented(tree.body)


@pytest.mark.parametrize("module", MODULES)
def test_all_names_only_what_is_there(module: str) -> None:
    loaded = importlib.import_module(module)
    assert [n for n in getattr(loaded, "__all__", []) if not hasattr(loaded, n)] == []


def test_the_seed_of_numpy_is_nobodys_business() -> None:
    """No module draws from NumPy's global state, so nobody's seed changes our results."""
    used = [
        name(p)
        for p in SOURCES
        if re.search(r"np\.random\.(?!default_rng|Generator|SeedSequence)", p.read_text("utf-8"))
    ]
    assert used == []
