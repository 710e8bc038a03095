"""What a head is held against, where its labels and those of the data differ; which split is measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from mien.data.importers import LabelledFaces
from mien.errors import DataError
from mien.evaluate.run import evaluate, read_all
from mien.evaluate.truth import truth
from mien.labels import EIGHT, SEVEN, SIX, THREE, LabelSet
from mien.models.expression import Reading
from mien.zoo.card import Head, ModelCard

MOODS = LabelSet("moods", ("smile", "pout", "neutral"))


def faces(
    label: list[int], labels: LabelSet = SEVEN, *, votes: np.ndarray | None = None, split: list[str] | None = None,
    vote_labels: LabelSet = EIGHT,
) -> LabelledFaces:  # fmt: skip
    n = len(label)
    images = np.zeros((n, 48, 48), np.uint8)
    images[:, 0, 0] = np.arange(n)
    return LabelledFaces(
        images=images,
        label=np.array(label),
        votes=np.zeros((n, len(vote_labels) + 2), np.float32) if votes is None else votes.astype(np.float32),
        split=np.array(split or ["PublicTest"] * n),
        group=np.arange(n),
        name=np.array([f"face {i}" for i in range(n)]),
        labels=labels,
        vote_labels=vote_labels,
    )


@dataclass
class Model:
    """Answers by the brightness of a crop's first pixel."""

    scores: dict[str, np.ndarray]
    heads: tuple[Head, ...]

    @property
    def card(self) -> ModelCard:
        return ModelCard(
            name="mine", task="expression", file="", sha256="0" * 64, size=0, licence="", origin="", data="",
            heads=self.heads,
        )  # fmt: skip

    def read(self, crops: np.ndarray) -> Reading:
        i = crops[:, 0, 0]
        return Reading({name: s[i] for name, s in self.scores.items()}, np.zeros((len(i), 1), np.float32))


def model(*heads: Head, n: int = 64) -> Model:
    rng = np.random.default_rng(0)
    return Model({h.name: rng.dirichlet(np.ones(len(h.labels)), n).astype(np.float32) for h in heads}, heads)


def test_labels_of_its_own_are_measured_in_one_head() -> None:
    mine, label = model(Head("labels", MOODS)), [i % 3 for i in range(30)]
    part = evaluate(mine, faces(label, MOODS)).as_given
    assert (part.crowd, part.fer2013) == (None, None)
    named = mine.scores["labels"][:30].argmax(1)
    assert part.labels.accuracy.value == pytest.approx((named == np.array(label)).mean())
    assert part.labels.labels == MOODS.labels
    assert part.labels.chance_uniform == pytest.approx(1 / 3)
    assert list(part.heads()) == ["labels"]


def test_unlabelled_faces_do_not_count() -> None:
    held = truth(faces([2, -1, 0], MOODS), Head("labels", MOODS))
    assert held.index.tolist() == [0, 2]
    assert held.label.tolist() == [2, 0]
    assert len(held) == 2


def test_a_head_is_carried_to_fewer_labels_of_the_data() -> None:
    head = Head("labels", EIGHT)
    mine, label = model(head), [i % 6 for i in range(24)]
    held = truth(faces(label, SIX), head)
    assert held.labels == SIX
    scores = mine.scores["labels"][:24]
    by_hand = np.stack(
        [
            scores[:, [EIGHT.index(name)]].sum(1)
            + (scores[:, EIGHT.index("disgust")] if name == "angry" else 0)
            + (scores[:, EIGHT.index("contempt")] if name == "neutral" else 0)
            for name in SIX
        ],
        1,
    )
    np.testing.assert_allclose(held.held(scores), by_hand, rtol=1e-6)
    report = evaluate(mine, faces(label, SIX))
    assert report.as_given.labels.accuracy.value == pytest.approx((by_hand.argmax(1) == np.array(label)).mean())
    assert "the labels head names 8 labels and is measured in the data's 6" in report.notes


def test_more_labels_of_the_data_are_carried_to_the_head() -> None:
    head = Head("fer2013", SEVEN)
    held = truth(faces([EIGHT.index("contempt"), EIGHT.index("happy")], EIGHT), head)
    assert held.labels == SEVEN
    assert held.carry is None
    assert [SEVEN.labels[i] for i in held.label] == ["neutral", "happy"]
    notes = evaluate(model(head), faces([7, 3], EIGHT)).notes
    assert "the data's 8 labels were carried to the 7 of the fer2013 head" in notes


def test_the_order_of_labels_does_not_matter() -> None:
    turned = LabelSet("turned", ("neutral", "smile", "pout"))
    held = truth(faces([0, 1, 2], turned), Head("labels", MOODS))
    assert [MOODS.labels[i] for i in held.label] == ["neutral", "smile", "pout"]


def test_a_few_labels_of_the_head_are_found_in_it() -> None:
    few = LabelSet("few", ("happy", "sad"))
    held = truth(faces([0, 1], few), Head("fer2013", SEVEN))
    assert held.labels == SEVEN
    assert [SEVEN.labels[i] for i in held.label] == ["happy", "sad"]


def test_labels_that_do_not_fit_are_named() -> None:
    with pytest.raises(DataError, match=r"smile, pout, neutral.*fer2013 head names angry.*not measured"):
        evaluate(model(Head("fer2013", SEVEN)), faces([0, 1, 2], MOODS))


def test_without_labels_and_votes_there_is_nothing_to_measure() -> None:
    both = Head("crowd", EIGHT), Head("fer2013", SEVEN)
    with pytest.raises(DataError, match=r"no votes.*no face has a label"):
        evaluate(model(*both), faces([-1, -1]))


def test_votes_are_carried_to_the_heads_labels() -> None:
    votes = np.zeros((3, 10))
    votes[0, EIGHT.index("disgust")], votes[0, EIGHT.index("happy")] = 6, 4
    votes[1, EIGHT.index("fear")], votes[1, 8] = 3, 7
    held = truth(faces([-1] * 3, votes=votes), Head("labels", THREE))
    assert held.index.tolist() == [0]
    assert THREE.labels[held.label[0]] == "negative"
    np.testing.assert_allclose(held.target, [[0.6, 0.4, 0]])


def test_a_head_held_against_labels_knows_the_votes_too() -> None:
    votes = np.zeros((2, 10))
    votes[0, EIGHT.index("sad")], votes[0, EIGHT.index("happy")] = 2, 8
    head = Head("labels", SEVEN)
    held = truth(faces([3, 4], votes=votes), head)
    assert held.index.tolist() == [0, 1]
    np.testing.assert_allclose(held.target.sum(1), [1, 0])
    found = evaluate(model(head), faces([3, 4], votes=votes)).as_given.labels
    assert found.divergence.n == 1
    assert truth(faces([3, 4], votes=votes), Head("fer2013", SEVEN)).target is None


def test_the_crowds_head_takes_labels_as_fine_as_its_own_where_there_are_no_votes() -> None:
    both = Head("crowd", EIGHT), Head("fer2013", SEVEN)
    part = evaluate(model(*both), faces([i % 8 for i in range(16)], EIGHT)).as_given
    assert part.labels.labels == EIGHT.labels
    assert part.fer2013.labels == SEVEN.labels
    assert part.crowd is None
    report = evaluate(model(*both), faces([i % 7 for i in range(14)]))
    assert report.as_given.labels is None
    assert "the data has no votes: the crowd head was not measured" in report.notes


@pytest.mark.parametrize(
    ("splits", "chosen", "n"),
    [
        (["Training", "PublicTest", "test"], "PublicTest", 1),
        (["train", "test", "val"], "test", 1),
        (["train", "Validation", "val"], "Validation", 1),
        (["train", "train", "val"], "val", 1),
        (["Training", "Training", "PrivateTest"], "all", 3),
        (["Training", "Training", "Training"], "all", 3),
    ],
    ids=str,
)
def test_which_split_is_measured(splits: list[str], chosen: str, n: int) -> None:
    report = evaluate(model(Head("labels", MOODS)), faces([0, 1, 2], MOODS, split=splits))
    assert (report.split, report.as_given.n) == (chosen, n)
    said = any("no split to test on: all faces were measured" in note for note in report.notes)
    assert said == (chosen == "all")


def test_pictures_that_were_left_out_are_told() -> None:
    from dataclasses import replace

    broken = replace(faces([0, 1, 2], MOODS), problems=("a.png: not a picture", "b.png: not a picture"))
    notes = evaluate(model(Head("labels", MOODS)), broken).notes
    assert "2 pictures were left out, the first: a.png: not a picture" in notes


def test_all_crops_are_read_in_blocks_and_none_gives_none() -> None:
    mine = model(Head("labels", MOODS), n=256)
    crops = np.zeros((600, 4, 4), np.uint8)
    crops[:, 0, 0] = np.arange(600) % 256
    seen: list[int] = []
    reading = read_all(mine, crops, lambda done, _n: seen.append(done))
    np.testing.assert_array_equal(reading.scores["labels"], mine.scores["labels"][np.arange(600) % 256])
    assert seen == [256, 512, 600]
    assert len(read_all(mine, crops[:0])) == 0
