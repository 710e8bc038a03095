"""Planted faults of data and models, each of which must be found, and clean ones, which must not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.data.importers import LabelledFaces, read_fer2013
from mien.errors import DataError, ShapeError
from mien.evaluate import twins
from mien.evaluate.honesty import CHECKS, Finding, check
from mien.evaluate.subgroup import newcombe
from mien.models.expression import Expression


def portraits(n: int, seed: int = 0) -> np.ndarray:
    """Pictures (n, 48, 48) that differ from each other in broad strokes and in detail, as photographs do."""
    rng = np.random.default_rng(seed)
    out = np.empty((n, 48, 48), np.uint8)
    for i in range(n):
        strokes = cv2.resize(rng.normal(0, 1, (6, 6)).astype(np.float32), (48, 48), interpolation=cv2.INTER_CUBIC)
        detail = cv2.GaussianBlur(rng.normal(0, 1, (48, 48)).astype(np.float32), (0, 0), 1.5)
        out[i] = np.clip(128 + 45 * strokes + 60 * detail, 0, 255)
    return out


def faces(images: np.ndarray, split: np.ndarray, **fields: object) -> LabelledFaces:
    n = len(images)
    numbers: dict[bytes, int] = {}
    plain = {
        "images": images,
        "label": np.arange(n) % 7,
        "votes": np.zeros((n, 10), np.float32),
        "split": split,
        "group": np.array([numbers.setdefault(i.tobytes(), len(numbers)) for i in images]),
        "name": np.array([f"face{i}" for i in range(n)]),
    }
    return LabelledFaces(**plain | fields)


def two_splits(train: np.ndarray, test: np.ndarray, **fields: object) -> LabelledFaces:
    split = np.array(["Training"] * len(train) + ["PublicTest"] * len(test))
    return faces(np.concatenate([train, test]), split, **fields)


def clean(n: int = 60) -> LabelledFaces:
    return two_splits(portraits(n, 1), portraits(n, 2))


def linear(crops: np.ndarray) -> np.ndarray:
    """Seven probabilities from the pixels of each crop alone."""
    weights = np.random.default_rng(9).normal(0, 1, (crops[0].size, 7))
    logits = (crops.reshape(len(crops), -1) / 255.0 - 0.5) @ weights / 8
    likely = np.exp(logits - logits.max(1, keepdims=True))
    return (likely / likely.sum(1, keepdims=True)).astype(np.float32)


def by_check(found: tuple[Finding, ...]) -> dict[str, Finding]:
    assert tuple(f.check for f in found) == CHECKS
    return {f.check: f for f in found}


def look(
    data: LabelledFaces, classify: Callable[[np.ndarray], np.ndarray] = linear, split: str = "PublicTest"
) -> dict[str, Finding]:
    return by_check(check(classify, data, split))


def encoded(picture: np.ndarray, kind: str, quality: int) -> np.ndarray:
    flag = cv2.IMWRITE_JPEG_QUALITY if kind == ".jpg" else cv2.IMWRITE_WEBP_QUALITY
    return cv2.imdecode(cv2.imencode(kind, np.ascontiguousarray(picture), [flag, quality])[1], cv2.IMREAD_GRAYSCALE)


def shifted(picture: np.ndarray, x: float, y: float, scale: float) -> np.ndarray:
    middle = 23.5 * (1 - scale)
    matrix = np.array([[scale, 0, middle + x], [0, scale, middle + y]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(picture, matrix, (48, 48), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def lit(picture: np.ndarray, gain: float, offset: float) -> np.ndarray:
    return np.clip(picture.astype(np.float32) * gain + offset, 0, 255).astype(np.uint8)


def test_clean_data_and_an_honest_model_are_clear() -> None:
    found = look(clean())
    states = {name: f.state for name, f in found.items()}
    assert states.pop("shared persons") == "not checked"
    assert set(states.values()) == {"clear"}
    assert all(f.count == 0 and not f.examples and not f.rows for f in found.values())


def test_a_planted_leak_of_100_faces_is_found_and_the_mirrored_one_too() -> None:
    train, test = portraits(160, 1), portraits(40, 2)
    copies = train[:100].copy()
    copies[0] = encoded(copies[0, :, ::-1], ".jpg", 70)
    found = look(two_splits(train, np.concatenate([test, copies])))
    equal, near = found["equal pictures"], found["near-equal pictures"]
    assert (equal.state, equal.count, equal.rows) == ("found", 99, tuple(range(41, 140)))
    assert equal.examples[0] == "face201"
    assert equal.summary.startswith("99 of 140 pictures (70.7%) are in another split")
    assert (near.state, near.count, near.rows, near.examples) == ("found", 1, (40,), ("face200",))
    assert "1 of 41 further pictures" in near.summary
    assert "1 of them mirrored" in near.summary


@pytest.mark.parametrize("kind", [".jpg", ".webp"])
def test_100_mirrored_and_re_encoded_copies_are_found(kind: str) -> None:
    rng = np.random.default_rng(5)
    train, test = portraits(160, 1), portraits(40, 2)
    copies = np.stack([encoded(p[:, ::-1], kind, int(rng.integers(50, 96))) for p in train[:100]])
    near = look(two_splits(train, np.concatenate([test, copies])))["near-equal pictures"]
    assert near.rows == tuple(range(40, 140))
    assert "100 of them mirrored" in near.summary


@pytest.mark.shared
def test_copies_of_real_faces_are_found_and_other_faces_are_not(shared: Path) -> None:
    """Of 100 copies of each kind at least 95 are found, each with its own source."""
    training = read_fer2013(shared / "fer2013" / "training.parquet").images[:1500]
    rng = np.random.default_rng(6)
    chosen = rng.permutation(len(training))[:100]
    kinds: dict[str, list[np.ndarray]] = {"encoded": [], "mirrored": [], "moved": [], "lit": [], "all": []}
    for p in training[chosen]:
        x, y = rng.uniform(-3, 3, 2)
        moved = shifted(p, x, y, rng.uniform(0.92, 1.08))
        quality = int(rng.integers(50, 96))
        kinds["encoded"].append(encoded(p, ".webp", quality))
        kinds["mirrored"].append(encoded(p[:, ::-1], ".jpg", quality))
        kinds["moved"].append(moved)
        kinds["lit"].append(lit(p, rng.uniform(0.7, 1.3), rng.uniform(-30, 30)))
        kinds["all"].append(encoded(lit(moved[:, ::-1], rng.uniform(0.8, 1.2), 10), ".jpg", quality))
    for name, copies in kinds.items():
        found = twins.near(np.stack(copies), training)
        own = {int(i) for i, j in zip(found.first, found.second, strict=True) if j == chosen[i]}
        assert len(own) >= 95, name


@pytest.mark.shared
def test_the_bundled_model_on_clean_faces_is_clear(shared: Path) -> None:
    some = read_fer2013(shared / "fer2013" / "training.parquet", split="Training")[:400]
    pairs = twins.near(some.images, some.images)
    copied = np.unique(np.concatenate([pairs.first, pairs.second])[np.tile(pairs.first != pairs.second, 2)])
    alone = np.setdiff1d(np.arange(400), copied)
    kept = some[alone]
    split = np.where(np.arange(len(kept)) % 2, "Training", "PublicTest")
    data = faces(kept.images, split, label=kept.label)
    model = Expression(threads=1)
    found = look(data, lambda crops: model.read(crops).fer2013)
    assert len(kept) > 200
    states = {name: f.state for name, f in found.items()}
    assert states.pop("shared persons") == "not checked"
    assert set(states.values()) == {"clear"}, [f.summary for f in found.values()]


def test_nothing_is_like_a_picture_of_one_colour() -> None:
    flat = np.stack([np.full((48, 48), v, np.uint8) for v in (0, 90, 255)])
    assert len(twins.near(flat, flat)) == 0
    assert len(twins.near(flat, portraits(20))) == 0
    assert len(twins.near(portraits(20), flat)) == 0


def test_twins_of_other_sizes_and_colours() -> None:
    grey = portraits(30)
    large = np.stack([cv2.cvtColor(cv2.resize(p, (96, 96)), cv2.COLOR_GRAY2RGB) for p in grey[:5]])
    found = twins.near(large, grey)
    np.testing.assert_array_equal(np.sort(found.first), range(5))
    np.testing.assert_array_equal(found.first, found.second)
    assert not found.mirrored.any()
    assert (np.diff(found.correlation) <= 0).all()


def test_twins_of_nothing() -> None:
    assert len(twins.near(portraits(3), portraits(3)[:0])) == len(twins.near(portraits(3)[:0], portraits(3))) == 0
    with pytest.raises(ShapeError, match="pictures"):
        twins.near(portraits(3).astype(np.float32), portraits(3))


def test_memory_for_the_search_is_bounded_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = portraits(40), portraits(40)[::-1]
    whole = twins.near(ours, theirs)
    monkeypatch.setattr(twins, "_ENTRIES", 1)
    blocks = twins.near(ours, theirs)
    np.testing.assert_array_equal(whole.first, blocks.first)
    np.testing.assert_array_equal(whole.second, 39 - whole.first)
    np.testing.assert_array_equal(whole.second, blocks.second)


def test_copies_that_are_read_better_say_by_how_much() -> None:
    train, test = portraits(60, 1), portraits(60, 2)
    data = two_splits(train, np.concatenate([train[:40], test]))
    data = replace(data, label=data.group % 7)
    right = {p.tobytes() for p in data.images[60:110]}

    def taught(crops: np.ndarray) -> np.ndarray:
        known = {i.tobytes(): int(label) for i, label in zip(data.images, data.label, strict=True)}
        names = [known[c.tobytes()] if c.tobytes() in right else (known[c.tobytes()] + 1) % 7 for c in crops]
        return np.eye(7, dtype=np.float32)[names]

    summary = look(data, taught)["equal pictures"].summary
    gap = newcombe(40, 40, 10, 60)
    interval = f"({100 * gap.low:+.1f} to {100 * gap.high:+.1f})"
    assert f"accuracy 100.0% (n 40) on them, 16.7% (n 60) on the others, a gap of +83.3 points {interval}" in summary


def test_near_copies_are_compared_with_faces_that_have_no_copy_at_all() -> None:
    """Equal pictures, near copies, others: only the near ones are right, and the equal ones do not count."""
    train, test = portraits(60, 1), portraits(30, 2)
    near = np.stack([encoded(p, ".jpg", 80) for p in train[20:40]])
    data = two_splits(train, np.concatenate([train[:20], near, test]), label=np.zeros(130, np.int64))
    right = {p.tobytes() for p in near}

    def taught(crops: np.ndarray) -> np.ndarray:
        return np.eye(7, dtype=np.float32)[[0 if c.tobytes() in right else 1 for c in crops]]

    found = look(data, taught)
    assert found["near-equal pictures"].rows == tuple(range(20, 40))
    assert "accuracy 100.0% (n 20) on them, 0.0% (n 30) on the others" in found["near-equal pictures"].summary
    assert "accuracy 0.0% (n 20) on them, 40.0% (n 50) on the others" in found["equal pictures"].summary


def persons(shared: int, *, fresh: int = 20) -> LabelledFaces:
    """Persons with three faces each; ``shared`` of them are in Training and in the test."""
    names = [f"p{i}" for i in range(shared + fresh)]
    person = np.repeat([*names[:shared], *(f"t{i}" for i in range(10)), *names], 3)
    n = len(person)
    split = np.where(np.arange(n) < 3 * (shared + 10), "Training", "PublicTest")
    return faces(portraits(n, 3), split, person=person, label=np.zeros(n, np.int64))


def test_shared_persons_are_found_with_the_gap_of_accuracy() -> None:
    data = persons(20)
    known = {p.tobytes() for p in data.images[np.isin(data.person, [f"p{i}" for i in range(20)])]}

    def remembers(crops: np.ndarray) -> np.ndarray:
        return np.eye(7, dtype=np.float32)[[0 if c.tobytes() in known else c[0, 0] % 2 for c in crops]]

    found = look(data, remembers)["shared persons"]
    assert (found.state, found.count) == ("found", 60)
    assert found.summary.startswith("20 of 40 persons (60 faces) are in another split; accuracy 100.0% (n 60) on them")
    theirs = (data.images[-60:, 0, 0] % 2 == 0).mean()
    assert f"{theirs:.1%} (n 60) on new persons, a gap of {100 * (1 - theirs):+.1f} points" in found.summary
    assert "resampling persons" in found.summary


def test_the_interval_of_the_gap_draws_persons_not_faces() -> None:
    """Ten persons whose faces are all right or all wrong are ten cases, not thirty."""
    data = persons(10, fresh=10)
    good = {p.tobytes() for p in data.images[np.isin(data.person, ["p1", "p3", "p5", "p7", "p9"])]}
    good |= {p.tobytes() for p in data.images[np.isin(data.person, ["p11", "p13", "p15", "p17", "p19"])]}

    def by_person(crops: np.ndarray) -> np.ndarray:
        return np.eye(7, dtype=np.float32)[[0 if c.tobytes() in good else 1 for c in crops]]

    summary = look(data, by_person)["shared persons"].summary
    assert "a gap of +0.0 points" in summary
    low, high = (float(v) for v in summary.split("points (")[1].split(",")[0].split(" to "))
    # Two means of ten coins each: ± 1.96 · √(2 · 0.25 / 10) = ± 44 points; thirty faces each would give ± 25.
    assert low == pytest.approx(-44, abs=8)
    assert high == pytest.approx(44, abs=8)


def test_new_persons_are_clear_and_unknown_ones_are_counted() -> None:
    data = persons(0)
    assert look(data)["shared persons"].summary == "none of 20 persons is in another split"
    nameless = np.where(np.arange(len(data)) == len(data) - 1, "", data.person)
    some = faces(data.images, data.split, person=nameless)
    assert look(some)["shared persons"].summary == "none of 20 persons is in another split; 1 faces have no name"


def test_shared_persons_without_anyone_to_compare_with() -> None:
    assert "no labelled faces of new persons" in look(persons(5, fresh=0))["shared persons"].summary


def test_other_scores_than_labels_are_not_compared() -> None:
    found = look(persons(5), lambda c: np.full((len(c), 3), 1 / 3, np.float32))["shared persons"]
    assert found.summary.endswith("accuracy was not compared, since 3 scores do not fit 7 labels")


def test_one_picture_with_two_labels_is_found() -> None:
    images = np.concatenate([portraits(20), portraits(20)[:3]])
    label = np.concatenate([np.zeros(20, np.int64), [1, 0, -1]])
    found = look(faces(images, np.full(23, "PublicTest"), label=label))["conflicting labels"]
    assert (found.state, found.count, found.rows) == ("found", 2, (0, 20))
    assert found.summary == "2 of 22 faces show 1 picture that occurs with different labels"
    none = look(faces(portraits(5), np.full(5, "PublicTest"), label=np.full(5, -1)))["conflicting labels"]
    assert none.state == "not checked"


def test_a_lone_split_is_not_checked_for_leaks() -> None:
    found = look(faces(portraits(20), np.full(20, "Training")), split="Training")
    for name in ("equal pictures", "near-equal pictures", "shared persons"):
        assert (found[name].state, found[name].summary) == ("not checked", "the data has no other split")


class Flips:
    """A mirror left on at test time, one face in so many."""

    def __init__(self, share: float, *, seeded_again: bool = False) -> None:
        self._rng, self._share, self._again = np.random.default_rng(0), share, seeded_again

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(0) if self._again else self._rng
        mirrored = rng.random(len(crops)) < self._share
        return linear(np.where(mirrored[:, None, None], crops[:, :, ::-1], crops))


@pytest.mark.parametrize("share", [0.5, 0.03])
def test_a_random_flip_at_test_time_is_found(share: float) -> None:
    found = look(clean(150), Flips(share))
    assert found["random answers"].state == "found"
    assert found["random answers"].count >= 3
    assert "something random is left on" in found["random answers"].summary
    assert found["batch dependence"].state == "not checked"


def test_a_random_flip_that_starts_anew_at_each_call_is_found_by_the_company() -> None:
    found = look(clean(), Flips(0.5, seeded_again=True))
    assert found["random answers"].state == "clear"
    assert found["batch dependence"].state == "found"


def normed(crops: np.ndarray) -> np.ndarray:
    """What a batch norm in training mode does: the batch's own mean and spread."""
    values = crops.reshape(len(crops), -1)[:, :7].astype(np.float32)
    scaled = (values - values.mean(0)) / (values.std(0) + 1)
    likely = np.exp(scaled)
    return likely / likely.sum(1, keepdims=True)


def test_a_norm_over_the_batch_is_found() -> None:
    found = look(clean(), normed)
    assert found["random answers"].state == "clear"
    assert found["batch dependence"].state == "found"
    assert found["batch dependence"].count > 50
    assert "a batch norm may be in training mode" in found["batch dependence"].summary
    assert found["probabilities"].state == "clear"


def test_a_reader_that_goes_by_the_row_is_found() -> None:
    def by_row(crops: np.ndarray) -> np.ndarray:
        return np.eye(7, dtype=np.float32)[np.arange(len(crops)) % 7]

    assert look(clean(), by_row)["batch dependence"].state == "found"


def test_float_noise_is_no_finding() -> None:
    def noisy(crops: np.ndarray) -> np.ndarray:
        return linear(crops) + np.float32(1e-5) * (len(crops) % 3)

    assert look(clean(), noisy)["batch dependence"].state == "clear"


def test_a_reader_that_fails_on_one_face_alone_is_found() -> None:
    def needs_more(crops: np.ndarray) -> np.ndarray:
        if len(crops) == 1:
            msg = "Expected more than 1 value per channel"
            raise ValueError(msg)
        return linear(crops)

    found = look(clean(), needs_more)["batch dependence"]
    assert found.state == "found"
    assert found.summary == "faces can be read 60 at a time, but 1: Expected more than 1 value per channel"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda s: s * 100, "60 leave 0 to 1, 60 do not sum"),
        (lambda s: np.log(s), "60 leave 0 to 1"),
        (lambda s: s * 0.5, "0 leave 0 to 1, 60 do not sum"),
        (lambda s: np.where(np.arange(len(s))[:, None] == 0, np.nan, s), "1 hold what is no number"),
    ],
)
def test_scores_that_are_no_probabilities_are_found(wrong: Callable[[np.ndarray], np.ndarray], said: str) -> None:
    found = look(clean(), lambda crops: wrong(linear(crops)))["probabilities"]
    assert found.state == "found"
    assert said in found.summary


def test_what_cannot_be_checked_is_refused() -> None:
    with pytest.raises(DataError, match="'PrivateTest' is empty"):
        check(linear, clean(5), "PrivateTest")
    with pytest.raises(ShapeError, match="one row a crop"):
        check(lambda crops: np.ones(len(crops), np.float32), clean(5), "PublicTest")
