"""The measurement of a model whose answers are known."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics as oracle

from mien.errors import DataError
from mien.evaluate.run import evaluate, undo_temperature
from mien.labels import EIGHT, SEVEN
from mien.models.expression import Reading
from mien.zoo.card import Head, ModelCard


def votes(**counts: int) -> list[int]:
    order = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt", "unknown", "nothing")
    return [counts.get(name, 0) for name in order]


@dataclass
class Known:
    """Answers by the brightness of a crop's first pixel, as if it had been trained."""

    crowd: np.ndarray
    fer2013: np.ndarray
    temperatures: tuple[tuple[str, float], ...] = (("crowd", 0.5), ("fer2013", 2.0))

    @property
    def card(self) -> ModelCard:
        return ModelCard(
            name="known", task="expression", file="", sha256="0" * 64, size=0, licence="", origin="", data="",
            temperatures=self.temperatures, heads=self.heads,
        )  # fmt: skip

    @property
    def heads(self) -> tuple[Head, ...]:
        return Head("crowd", EIGHT), Head("fer2013", SEVEN)

    def read(self, crops: np.ndarray) -> Reading:
        i = crops[:, 0, 0]
        return Reading({"crowd": self.crowd[i], "fer2013": self.fer2013[i]}, np.zeros((len(i), 2), np.float32))


def crop(number: int) -> bytes:
    picture = np.full((48, 48), 7, np.uint8)
    picture[0, 0] = number
    return cv2.imencode(".png", picture)[1].tobytes()


def write(folder: Path, rows: list[tuple[int, int, str, list[int]]]) -> Path:
    table = {
        "image": [crop(n) for n, *_ in rows],
        "label": [label for _, label, *_ in rows],
        "usage": [split for *_, split, _ in rows],
        "ferplus": [v for *_, v in rows],
    }
    pq.write_table(pa.table(table), folder / "faces.parquet")
    return folder / "faces.parquet"


def known(seed: int = 0, n: int = 256, **changes: object) -> Known:
    rng = np.random.default_rng(seed)
    parts = {k: rng.dirichlet(np.full(s, 0.5), n).astype(np.float32) for k, s in (("crowd", 8), ("fer2013", 7))}
    return Known(**parts | changes)


def sample(n: int = 200, seed: int = 1) -> list[tuple[int, int, str, list[int]]]:
    rng = np.random.default_rng(seed)
    chances = rng.dirichlet(np.full(10, 0.4), n)
    return [(i, int(rng.integers(7)), "PublicTest", rng.multinomial(10, chances[i]).tolist()) for i in range(n)]


def test_the_label_head_against_scikit_learn(tmp_path: Path) -> None:
    model, rows = known(), sample()
    truth, scores = np.array([label for _, label, *_ in rows]), model.fer2013[:200]
    found = evaluate(model, write(tmp_path, rows)).as_given.fer2013
    named = scores.argmax(1)
    assert found.n == 200
    assert found.accuracy.value == pytest.approx(oracle.accuracy_score(truth, named))
    assert found.balanced_accuracy.value == pytest.approx(oracle.balanced_accuracy_score(truth, named))
    assert found.macro_f1.value == pytest.approx(oracle.f1_score(truth, named, average="macro"))
    assert found.top2.value == pytest.approx(oracle.top_k_accuracy_score(truth, scores, k=2))
    assert found.likelihood_loss == pytest.approx(
        oracle.log_loss(truth, scores / scores.sum(1, keepdims=True)), rel=1e-5
    )
    np.testing.assert_array_equal(found.confusion, oracle.confusion_matrix(truth, named))
    assert found.chance_largest == np.bincount(truth).max() / 200
    assert found.chance_uniform == 1 / 7
    assert [c.label for c in found.classes] == list(SEVEN.labels)
    assert [c.n for c in found.classes] == np.bincount(truth).tolist()
    np.testing.assert_allclose([c.recall.value for c in found.classes], oracle.recall_score(truth, named, average=None))
    for estimate in (found.accuracy, found.balanced_accuracy, found.macro_f1, found.top2):
        assert estimate.low < estimate.value < estimate.high


def test_the_crowd_head_against_a_naive_loop(tmp_path: Path) -> None:
    model, rows = known(), sample()
    ours = [4, 5, 6, 1, 3, 2, 0, 7]
    hits = n = ties = left = 0
    divergence = []
    for number, *_, counts in rows:
        eight = [counts[i] for i in ours]
        if max(counts[8:]) > max(eight):
            left += 1
            continue
        n += 1
        hits += int(model.crowd[number].argmax()) == eight.index(max(eight))
        ties += eight.count(max(eight)) > 1
        p = np.array(eight) / sum(eight)
        divergence.append(sum(a * np.log(a / b) for a, b in zip(p, model.crowd[number], strict=True) if a))
    found = evaluate(model, write(tmp_path, rows)).as_given.crowd
    assert 0 < left < 200
    assert ties > 0
    assert (found.first_choice.n, found.left_out, found.ties, found.without_votes) == (n, left, ties, 0)
    assert found.first_choice.accuracy.value == pytest.approx(hits / n)
    assert found.divergence == pytest.approx(np.mean(divergence), rel=1e-5)
    assert [c.label for c in found.first_choice.classes] == list(EIGHT.labels)


@pytest.mark.parametrize(
    ("counts", "counted", "majority"),
    [
        (votes(happy=6, sad=4), True, True),
        (votes(happy=5, sad=5), True, False),
        (votes(happy=4, sad=3, fear=3), True, False),
        (votes(happy=5, sad=1, fear=1, angry=1, neutral=1, surprise=1), True, True),
        (votes(happy=4, unknown=6), False, False),
        (votes(happy=5, unknown=5), True, False),
        (votes(nothing=10), False, False),
        (votes(), False, False),
        (votes(happy=1, sad=1), True, False),
    ],
    ids=str,
)
def test_which_faces_count(tmp_path: Path, counts: list[int], counted: bool, majority: bool) -> None:
    certain = np.tile(np.eye(8, dtype=np.float32)[EIGHT.index("happy")], (256, 1))
    rows = [(0, 3, "PublicTest", counts), (1, 3, "PublicTest", votes(happy=10))]
    found = evaluate(known(crowd=certain), write(tmp_path, rows)).as_given.crowd
    assert found.first_choice.n == 1 + counted
    assert found.first_choice.accuracy.value == 1
    assert found.ferplus_majority.n == 1 + majority


def test_of_tied_choices_the_first_counts(tmp_path: Path) -> None:
    certain = np.tile(np.eye(8, dtype=np.float32)[EIGHT.index("sad")], (256, 1))
    found = evaluate(known(crowd=certain), write(tmp_path, [(0, 3, "PublicTest", votes(sad=5, neutral=5))])).as_given
    assert found.crowd.first_choice.accuracy.value == 1
    assert found.crowd.ties == 1


def test_twins_are_dropped(tmp_path: Path) -> None:
    rows = [
        (1, 0, "Training", votes(happy=10)),
        (1, 3, "PublicTest", votes(happy=10)),
        (1, 3, "PublicTest", votes(happy=10)),
        (2, 3, "PublicTest", votes(happy=10)),
        (2, 4, "PublicTest", votes(happy=10)),
        (3, 3, "PublicTest", votes(happy=10)),
        (4, 3, "PrivateTest", votes(happy=10)),
    ]
    right = np.zeros((256, 7), np.float32)
    right[:, 3] = 1
    report = evaluate(known(fer2013=right), write(tmp_path, rows))
    assert (report.as_given.n, report.deduplicated.n) == (5, 2)
    assert (report.also_elsewhere, report.repeated) == (2, 1)
    assert report.as_given.fer2013.accuracy.value == 0.8
    assert report.deduplicated.fer2013.accuracy.value == 1
    assert not any("only the split" in note for note in report.notes)


def test_a_single_split_says_so(tmp_path: Path) -> None:
    report = evaluate(known(), write(tmp_path, sample()))
    assert "the data has only the split PublicTest: twins were looked for within it alone" in report.notes


def test_another_split_and_a_missing_one(tmp_path: Path) -> None:
    file = write(tmp_path, [(1, 0, "Training", votes(happy=10)), (2, 3, "PublicTest", votes(happy=10))])
    report = evaluate(known(), file, split="Training")
    assert (report.split, report.as_given.n) == ("Training", 1)
    with pytest.raises(DataError, match="the split 'PrivateTest' is empty"):
        evaluate(known(), file, split="PrivateTest")


def test_what_is_not_there_is_not_measured(tmp_path: Path) -> None:
    report = evaluate(known(), write(tmp_path, [(0, 3, "PublicTest", votes()), (1, 0, "PublicTest", votes())]))
    assert report.as_given.crowd is None
    assert "the data has no votes: the crowd head was not measured" in report.notes
    assert any("no face is labelled disgust, fear" in note for note in report.notes)
    unlabelled = evaluate(known(), write(tmp_path, [(0, -1, "PublicTest", votes(happy=9))]))
    assert unlabelled.as_given.fer2013 is None
    assert unlabelled.as_given.crowd.first_choice.n == 1


def test_the_report_is_json_without_nan(tmp_path: Path) -> None:
    report = evaluate(known(), write(tmp_path, [(0, 3, "PublicTest", votes(happy=9)), (1, 3, "PublicTest", votes())]))
    table = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    angry = table["as_given"]["fer2013"]["classes"][0]
    assert angry["label"] == "angry"
    assert angry["recall"] == {"value": None, "low": None, "high": None, "n": 0}
    assert table["as_given"]["crowd"]["without_votes"] == 1
    assert table["model"] == "known"


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_temperature_is_undone(temperature: float) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (50, 7))

    def softmax(z: np.ndarray) -> np.ndarray:
        e = np.exp(z - z.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    answered = softmax(logits / temperature).astype(np.float32)
    np.testing.assert_allclose(undo_temperature(answered, temperature), softmax(logits), atol=1e-5)


def test_calibration_is_told_before_and_after(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    honest = np.full((256, 7), 0.4 / 6, np.float32)
    honest[:, 3] = 0.6
    rows = [(i, 3 if rng.random() < 0.6 else 0, "PublicTest", votes(happy=9)) for i in range(250)]
    found = evaluate(known(fer2013=honest, temperatures=(("fer2013", 3.0),)), write(tmp_path, rows)).as_given.fer2013
    assert found.calibration_error_after < 0.06
    assert found.calibration_error_before > 0.3
    same = evaluate(known(fer2013=honest, temperatures=()), write(tmp_path, rows))
    assert same.as_given.fer2013.calibration_error_before == pytest.approx(found.calibration_error_after, abs=1e-6)
    assert any("no temperatures" in note for note in same.notes)


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    rows = [(i % 256, 3, "PublicTest", votes(happy=9)) for i in range(300)]
    seen: list[tuple[int, int]] = []
    evaluate(known(), write(tmp_path, rows), progress=lambda done, n: seen.append((done, n)))
    assert seen == [(256, 300), (300, 300)]
