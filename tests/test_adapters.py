"""Models that run in a process of their own: foreign files against sums by hand, peers in real processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from peers import DEEPFACE, FER, foreign_net, python_with

from mien.errors import ModelError, OptionError
from mien.evaluate.adapters import worker
from mien.evaluate.adapters.foreign import Description, Foreign, describe, is_foreign
from mien.evaluate.adapters.process import Worker
from mien.labels import SEVEN


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def test_a_foreign_file_is_described_in_words_or_beside_it(tmp_path: Path) -> None:
    file = foreign_net(tmp_path)
    said = describe(f"{file}:labels=Anger, smile,sad;range=-1..1;scores=logits")
    assert said.labels == ("angry", "smile", "sad")
    assert (said.width, said.height, said.colour, said.low, said.high, said.channels_last) == (
        8,
        8,
        "grey",
        -1,
        1,
        False,
    )
    assert (said.scores, said.output, said.mean, said.std) == ("logits", "raw", (0,), (1,))
    assert Description.from_dict(json.loads(json.dumps(said.as_dict()))) == said
    (tmp_path / "net.toml").write_text('labels = ["angry", "smile", "sad"]\nrange = [-1, 1]\nscores = "logits"\n')
    assert describe(str(file)) == said
    assert describe(f"{file}:output=soft;scores=probabilities").output == "soft"
    (tmp_path / "net.toml").unlink()
    (tmp_path / "net.json").write_text(json.dumps({"labels": "angry,smile,sad", "range": "-1..1", "scores": "logits"}))
    assert describe(str(file)) == said


def test_whether_a_file_is_foreign(tmp_path: Path) -> None:
    file = foreign_net(tmp_path)
    assert is_foreign(str(file))
    assert is_foreign(f"{file}:labels=a,b")
    (tmp_path / "net.card.json").write_text("{}")
    assert not is_foreign(str(file))
    assert not is_foreign("expression")
    assert not is_foreign(str(tmp_path))


@pytest.mark.parametrize(
    ("words", "options", "line"),
    [
        ("", {}, "its labels and range must be told, for example net.onnx:labels="),
        ("labels=a,b,c", {}, "its range must be told"),
        ("labels=a,b,c;range=0..1;shade=grey", {}, "unknown word 'shade'"),
        ("labels=a,b,c;range", {}, "'range' in its description is no word=value"),
        ("labels=a,b,c;range=one", {}, "range is 'one'; say where 0 and 255 go"),
        ("labels=a,b,c;range=0..1;size=9", {}, "size is 9x9, the file takes 8x8"),
        ("labels=a,b,c;range=0..1;size=big", {}, "size is 'big'"),
        ("labels=a,b,c;range=0..1", {"side": "S"}, "size is None; the file does not fix it"),
        ("labels=a,b,c;range=0..1;colour=rgb", {}, "colour=rgb has 3 channels, the file takes 1"),
        ("labels=a,b,c;range=0..1", {"channels": "C"}, "colour is ''; it must be grey, rgb, bgr"),
        ("labels=a,b,c;range=0..1;std=0", {}, "std is '0'; give one number or 1"),
        ("labels=a,b,c;range=0..1;mean=1,2", {}, "mean is '1,2'"),
        ("labels=a,b,c;range=0..1;mean=x", {}, "mean is 'x'"),
        ("labels=a,b,c;range=0..1;scores=raw", {}, "scores is 'raw'; it must be probabilities, logits"),
        ("labels=a,b,c;range=0..1;output=top", {}, "output is 'top'; it must be raw, soft"),
    ],
)
def test_a_description_that_does_not_fit(tmp_path: Path, words: str, options: dict[str, object], line: str) -> None:
    file = foreign_net(tmp_path, **options)
    with pytest.raises(OptionError) as caught:
        describe(f"{file}:{words}" if words else str(file))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_foreign_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.onnx: no such model file"):
        describe(f"{tmp_path}/gone.onnx:labels=a,b")
    (tmp_path / "net.toml").write_text("labels = [")
    with pytest.raises(OptionError, match=r"net\.toml: cannot read this description"):
        describe(str(foreign_net(tmp_path)))
    flat = helper.make_graph(
        [helper.make_node("Softmax", ["x"], ["y"])],
        "flat", [helper.make_tensor_value_info("x", 1, ["N", 4])], [helper.make_tensor_value_info("y", 1, ["N", 4])],
    )  # fmt: skip
    model = helper.make_model(flat, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (tmp_path / "flat.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="four dimensions"):
        describe(f"{tmp_path}/flat.onnx:labels=a,b;range=0..1")


@pytest.mark.parametrize("batch", [1, "N"])
def test_a_foreign_net_is_fed_as_described(tmp_path: Path, batch: int | str) -> None:
    file = foreign_net(tmp_path, channels=3, last=True, batch=batch)
    words = "labels=a,b,c;range=0..2;colour=bgr;mean=0.1,0.2,0.3;std=0.5,1,2;scores=logits"
    crops = np.random.default_rng(0).integers(0, 255, (70, 8, 8, 3), np.uint8)
    found = Foreign(describe(f"{file}:{words}"))(crops)
    fed = (crops[..., ::-1] / 255 * 2 - [0.1, 0.2, 0.3]) / [0.5, 1, 2]
    held = np.random.default_rng(2).normal(0, 0.3, (192, 3)).astype(np.float32)
    np.testing.assert_allclose(found, softmax(fed.reshape(70, -1) @ held), atol=1e-5)
    assert Foreign(describe(f"{file}:{words}"))(crops[:0]).shape == (0, 3)


def test_a_foreign_net_with_other_labels_than_scores(tmp_path: Path) -> None:
    file = foreign_net(tmp_path)
    with pytest.raises(ModelError, match=r"scores of shape \(2, 3\) for 2 crops; labels names 2"):
        Foreign(describe(f"{file}:labels=a,b;range=0..1"))(np.zeros((2, 8, 8), np.uint8))


# Peers, in real processes.


@pytest.fixture
def crops(tmp_path: Path) -> tuple[Path, np.ndarray]:
    pixels = np.random.default_rng(1).integers(0, 255, (66, 48, 48), np.uint8)
    np.savez(tmp_path / "crops.npz", crops=pixels)
    return tmp_path / "crops.npz", pixels


def test_the_adapter_of_fer_feeds_it_as_its_own_detection_does(tmp_path: Path, crops: tuple[Path, np.ndarray]) -> None:
    file, pixels = crops
    python = python_with(tmp_path, {"fer/fer.py": FER})
    with Worker("fer", "fer", python, timeout=60) as held:
        facts = held.start()
        assert facts.labels == SEVEN.labels
        assert facts.seconds > 0
        scores, peak = held.score(file, tmp_path / "scores.npz", n=66)
        ms, busy = held.milliseconds(file, batch=64, seconds=0.01)
        weight = held.weigh()
    # The fake says happy in the measure of the mean of what it is fed, which is -1 … 1.
    happy = (pixels.mean((1, 2)) / 127.5 - 1 + 1) / 2
    np.testing.assert_allclose(scores[:, 3], happy, atol=0.01)
    np.testing.assert_allclose(scores.sum(1), 1)
    assert peak > 10
    assert ms > 0
    assert busy >= 0
    assert weight.megabytes is None
    assert weight.environment > 1


def test_colour_crops_reach_fer_as_grey(tmp_path: Path) -> None:
    pixels = np.zeros((2, 48, 48, 3), np.uint8)
    pixels[1, ..., 0] = 200
    np.savez(tmp_path / "crops.npz", crops=pixels)
    with Worker("fer", "fer-keras", python_with(tmp_path, {"fer/fer.py": FER}), timeout=60) as held:
        held.start()
        scores, _ = held.score(tmp_path / "crops.npz", tmp_path / "scores.npz", n=2)
    np.testing.assert_allclose(scores[:, 3], [0, 0.299 * 200 / 255], atol=0.01)


def test_deepface_runs_only_where_its_weights_lie(tmp_path: Path, crops: tuple[Path, np.ndarray]) -> None:
    python = python_with(tmp_path, DEEPFACE, DEEPFACE_HOME=str(tmp_path))
    with Worker("deepface", "deepface", python, timeout=60) as held, pytest.raises(ModelError) as caught:
        held.start()
    assert "its weights are not on this machine" in str(caught.value)
    weights = tmp_path / ".deepface" / "weights"
    weights.mkdir(parents=True)
    (weights / "facial_expression_model_weights.h5").write_bytes(b"")
    with Worker("deepface", "deepface", python, timeout=60) as held:
        assert held.start().labels == SEVEN.labels
        scores, _ = held.score(crops[0], tmp_path / "scores.npz", n=66)
    np.testing.assert_allclose(scores[:, 4], crops[1].mean((1, 2)) / 255, atol=1e-6)


BROKEN = {
    "missing": ({}, "No module named 'fer'"),
    "damaged": ({"fer/fer.py": "import nothing_of_this_name"}, "No module named 'nothing_of_this_name'"),
    "exits": ({"fer/fer.py": "raise SystemExit('no licence')"}, "SystemExit: no licence"),
    "dies": (
        {"fer/fer.py": "import os, sys\nprint('cannot go on', file=sys.stderr, flush=True)\nos._exit(3)"},
        "it ended with code 3",
    ),
    "says why": (
        {"fer/fer.py": "import os, sys\nprint('cannot go on', file=sys.stderr, flush=True)\nos._exit(3)"},
        "cannot go on",
    ),
    "several lines": ({"fer/fer.py": "raise ValueError('one\\ntwo')"}, "ValueError: one two"),
    "hangs": ({"fer/fer.py": "import threading\nthreading.Event().wait()"}, "no answer in 3 s"),
}


@pytest.mark.parametrize("kind", sorted(BROKEN))
def test_a_broken_peer_is_told_in_one_line(tmp_path: Path, kind: str) -> None:
    files, line = BROKEN[kind]
    held = Worker("fer", "fer", python_with(tmp_path, files), timeout=3 if kind == "hangs" else 60)
    with held, pytest.raises(ModelError) as caught:
        held.start()
    assert str(caught.value).startswith("fer: ")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert held._process is None


@pytest.mark.parametrize("python", ["nowhere/python", "text", "listing"])
def test_what_is_no_python_is_told_in_one_line(tmp_path: Path, python: str) -> None:
    (tmp_path / "text").write_text("no program")
    listing = tmp_path / "listing"
    listing.write_text("#!/bin/sh\necho hello\n")
    listing.chmod(0o755)
    with Worker("fer", "fer", tmp_path / python, timeout=60) as held, pytest.raises(ModelError) as caught:
        held.start()
    assert "--peer fer=/path/to/python" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_folder_of_an_environment_names_its_python(tmp_path: Path) -> None:
    python = python_with(tmp_path, {"fer/fer.py": FER})
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "bin" / "python").symlink_to(python)
    with Worker("fer", "fer", tmp_path / "env", timeout=60) as held:
        assert held.start().labels[0] == "angry"
    with (
        Worker("fer", "fer", tmp_path, timeout=60) as held,
        pytest.raises(ModelError, match=r"cannot start .*bin/python"),
    ):
        held.start()


@pytest.mark.parametrize(
    ("net", "line"),
    [
        ("np.full((len(x), 7), np.nan)", "are no probabilities"),
        ("np.full((len(x), 7), 0.5)", "0.5 to 0.5, are no probabilities that sum to 1"),
        ("np.ones((1, 7)) / 7", "scores of shape (2, 7) for 66 faces"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_scores_that_are_none_are_refused(tmp_path: Path, crops: tuple[Path, np.ndarray], net: str, line: str) -> None:
    answers = f"np.ones((1, 7)) / 7 if len(x) == 1 else {net}"
    source = FER.replace("return self._answer(x)", f"return {answers}")
    assert source != FER
    with Worker("fer", "fer", python_with(tmp_path, {"fer/fer.py": source}), timeout=60) as held:
        held.start()
        with pytest.raises(ModelError) as caught:
            held.score(crops[0], tmp_path / "scores.npz", n=66)
    assert line in str(caught.value)


def test_a_peer_that_dies_between_two_questions(tmp_path: Path, crops: tuple[Path, np.ndarray]) -> None:
    with Worker("fer", "fer", python_with(tmp_path, {"fer/fer.py": FER}), timeout=60) as held:
        with pytest.raises(ModelError, match="call start first"):
            held.weigh()
        held.start()
        held._process.kill()
        held._process.wait()
        with pytest.raises(ModelError, match="it ended with code -9"):
            held.score(crops[0], tmp_path / "scores.npz", n=66)


def package(folder: Path, name: str, size: int, needs: tuple[str, ...] = ()) -> None:
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / f"{name}.bin").write_bytes(b"x" * size)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {n}" for n in needs)]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    (info / "RECORD").write_text(f"{name}.bin,,\n{name}.gone,,\n")


def test_megabytes_are_those_of_the_package_and_all_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = (
        "Tool_Two>=1",
        "sweets; extra == 'dev'",
        'lost (>=2); python_version > "3"',
        'windows-only; sys_platform == "win33"',
    )
    package(tmp_path, "peer-pack", 1000, needs)
    package(tmp_path, "tool-two", 200, ("peer-pack",))
    package(tmp_path, "sweets", 7000)
    package(tmp_path, "windows-only", 9000)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert worker.closure("peer-pack") == (1200, ["lost"])
    assert worker.closure("never-heard-of") == (None, [])
