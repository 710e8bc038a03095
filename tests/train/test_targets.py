"""What heads learn: labels or votes, weights, samples, teachers; and what an epoch is scored by."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")

import torch
from sklearn.metrics import accuracy_score, f1_score
from sklearn.utils.class_weight import compute_class_weight
from tiny import TINY, recipe
from torchmetrics.functional.classification import multiclass_f1_score

from mien.data.importers import LabelledFaces
from mien.errors import DataError, ModelError, OptionError, SourceNotFoundError
from mien.labels import EIGHT, SEVEN, SIX, THREE, LabelSet
from mien.models.expression import Expression
from mien.models.prepare import prepare
from mien.train.augment import Augment, cut
from mien.train.beginning import begin
from mien.train.bundle import golden_crops
from mien.train.fit import fit
from mien.train.loader import Batches, FacesData, stratified
from mien.train.module import Tally, metric_names
from mien.train.nets import build
from mien.train.targets import class_weight, make_targets, relabelled, with_teacher
from mien.train.teacher import Teacher, answers, open_teacher
from mien.train.trained import checkpoint_of, new_net, open_net

# Lightning warns of folders that are not empty, of few batches and of its own use of torch.
pytestmark = [pytest.mark.usefixtures("undrawn")] + [
    pytest.mark.filterwarnings(f"ignore::{kind}:{room}.*")
    for kind in ("UserWarning", "FutureWarning", "DeprecationWarning")
    for room in ("lightning", "torch")
]


def drawn(counts: tuple[int, ...], *, labels: LabelSet = SEVEN, votes: bool = True) -> LabelledFaces:
    """Return so many faces of each label, with votes that do not always agree."""
    rng = np.random.default_rng(3)
    label = np.repeat(np.arange(len(counts)), counts)
    n = len(label)
    held = np.zeros((n, len(EIGHT) + 2), np.float32)
    if votes:
        np.add.at(held, (np.arange(n), label), 6)
        np.add.at(held, (np.arange(n), rng.integers(0, 10, n)), 4)
    images = rng.integers(0, 255, (n, 12, 12), np.uint8)
    names = np.arange(n).astype(str)
    return LabelledFaces(images, label, held, np.full(n, "Training"), np.arange(n), names, labels=labels)


def test_both_heads_learn_from_their_own_source() -> None:
    faces = drawn((5, 1, 4, 9, 3, 2, 6))
    targets = make_targets(faces, recipe(), weighted=True)
    for i in range(len(faces)):
        named = faces.votes[i, :8]
        np.testing.assert_allclose(targets.shares["crowd"][i], named / named.sum(), rtol=1e-6)
        assert targets.weights["crowd"][i] == pytest.approx(named.sum() / 10)
    np.testing.assert_array_equal(targets.shares["fer2013"], np.eye(7)[faces.label])
    assert targets.weights["fer2013"].min() == 1


def test_one_head_learns_labels_or_votes_of_a_smaller_set() -> None:
    faces = drawn((5, 1, 4, 9, 3, 2, 6))
    hard = recipe(labels="three")
    moved = relabelled(faces, hard)
    share = make_targets(moved, hard, weighted=True).shares["labels"]
    negative = THREE.index("negative")
    assert share[:, negative].sum() == 5 + 1 + 4 + 3
    votes = make_targets(moved, recipe(labels="three", targets="votes"), weighted=False).shares["labels"]
    named = faces.votes[:, :8]
    np.testing.assert_allclose(votes[:, negative], named[:, [0, 1, 2, 4, 7]].sum(1) / named.sum(1), rtol=1e-5)


def test_labels_of_ones_own_are_merged_and_dropped() -> None:
    faces = drawn((5, 1, 4, 9, 3, 2, 6), votes=False)
    plain = recipe(
        labels=("up", "down"),
        merge={"happy": "up", "sad": "down", "angry": "down"},
        drop=("disgust", "fear", "surprise", "neutral"),
    )
    moved = relabelled(faces, plain)
    assert np.bincount(moved.label).tolist() == [9, 8]
    with pytest.raises(DataError, match="no votes; set targets to labels"):
        make_targets(moved, dataclasses.replace(plain, targets="votes"), weighted=True)


def test_both_heads_want_the_labels_of_fer2013() -> None:
    few = drawn((3, 4), labels=LabelSet("custom", ("happy", "sad")), votes=False)
    assert relabelled(few, recipe()).label.tolist() == [3] * 3 + [4] * 4
    assert relabelled(few, recipe()).vote_labels == EIGHT
    with pytest.raises(DataError, match=r"the data has the labels smile,pout and not FER2013's; name those to learn"):
        relabelled(dataclasses.replace(few, labels=LabelSet("custom", ("smile", "pout"))), recipe())


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    faces = drawn((5, 1, 4, 9, 3, 2, 6))
    expected = compute_class_weight("balanced", classes=np.arange(7), y=faces.label)
    share = np.eye(7, dtype=np.float32)[faces.label]
    np.testing.assert_allclose(class_weight(share, np.ones(30, np.float32)), expected, rtol=1e-6)
    balanced = recipe(labels="seven", class_weights="balanced")
    weights = make_targets(faces, balanced, weighted=True).weights["labels"]
    np.testing.assert_allclose(weights, expected[faces.label], rtol=1e-5)
    assert make_targets(faces, balanced, weighted=False).weights["labels"].unique().tolist() == [1]
    share[faces.label == 1] = np.eye(7)[0]
    assert class_weight(share, np.ones(30, np.float32))[1] == 0


def test_a_balanced_sampler_draws_every_class_alike() -> None:
    faces = drawn((400, 4, 40, 0, 0, 0, 156))
    targets = make_targets(faces, recipe(labels="seven"), weighted=True)
    batches = Batches(faces, targets, batch=60, seed=1, epoch=0, balanced=True)
    seen = torch.cat([b.shares["labels"].argmax(1) for b in batches])
    assert len(seen) == 600
    counts = torch.bincount(seen, minlength=7)[[0, 1, 2, 6]]
    assert (counts - 150).abs().max() < 5 * 150**0.5


def test_a_limit_keeps_every_class_its_share() -> None:
    faces = drawn((100, 10, 50, 200, 20, 5, 15))
    chosen = stratified(faces, 40, seed=0)
    assert len(chosen) == len(set(chosen.tolist())) == 40
    assert (np.diff(chosen) > 0).all()
    found = np.bincount(faces.label[chosen], minlength=7)
    assert (np.abs(found - np.bincount(faces.label) / 10) <= 1).all()
    assert not np.array_equal(chosen, stratified(faces, 40, seed=1))
    np.testing.assert_array_equal(stratified(faces, 1000, seed=0), np.arange(400))
    data = FacesData(faces, recipe(labels="seven"), limit=40)
    assert (len(data.split.train), len(data.split.validation)) == (40, 40)
    assert data.fingerprint() != FacesData(faces, recipe(labels="seven")).fingerprint()


def test_fewer_faces_than_a_batch_are_a_batch() -> None:
    faces = drawn((5, 6))
    (batch,) = Batches(faces, make_targets(faces, recipe(labels="seven"), weighted=True), batch=64, seed=1, epoch=0)
    assert len(batch.pictures) == 11


def test_a_teacher_is_blended_by_its_weight_and_speaks_where_nobody_else_does() -> None:
    faces = dataclasses.replace(drawn((3, 3)), label=np.array([0, 0, 0, 1, 1, -1]))
    one = recipe(labels="seven", teacher_weight=0.25)
    answer = np.full((6, 7), 1 / 7, np.float32)
    taught = with_teacher(make_targets(faces, one, weighted=True), {"labels": answer}, one)
    np.testing.assert_allclose(taught.shares["labels"][0], 0.75 * np.eye(7)[0] + 0.25 / 7, rtol=1e-6)
    np.testing.assert_allclose(taught.shares["labels"][5], answer[5])
    np.testing.assert_allclose(taught.weights["labels"], [1, 1, 1, 1, 1, 0.25])


def test_a_teacher_answers_for_picture_and_mirror_once(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crops = np.random.default_rng(0).integers(0, 255, (5, 48, 48), np.uint8)
    heads = {"crowd": EIGHT, "labels": SIX}
    found = answers([run], crops, heads, tmp_path)
    trained, net = open_net(run)
    assert trained == recipe()
    x = torch.from_numpy(crops[:, None] / np.float32(255))
    with torch.inference_mode():
        expected = [
            (torch.softmax(a, 1) + torch.softmax(b, 1)) / 2 for a, b in zip(net(x)[:2], net(x.flip(3))[:2], strict=True)
        ]
    np.testing.assert_allclose(found["crowd"], expected[0], atol=1e-5)
    # Six labels: FER+'s eight come first among the heads, and contempt goes to neutral, disgust to angry.
    np.testing.assert_allclose(found["labels"].sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(found["labels"][:, 0], expected[0][:, 0] + expected[0][:, 1], atol=1e-5)
    monkeypatch.setattr("mien.train.teacher.open_teacher", lambda _: pytest.fail("asked a second time"))
    again = answers([run], crops, heads, tmp_path)
    np.testing.assert_array_equal(again["labels"], found["labels"])
    assert len(list(tmp_path.glob("teacher-*.npz"))) == 1


def test_a_teacher_of_other_labels_is_refused(tmp_path: Path) -> None:
    teacher = Teacher(tmp_path / "t.onnx", {"labels": LabelSet("custom", ("smile", "pout"))}, lambda crops: {})
    with pytest.raises(OptionError, match=r"t\.onnx: knows smile,pout and cannot teach angry,fear"):
        teacher.match("labels", SIX)
    with pytest.raises(SourceNotFoundError, match="no such run or checkpoint"):
        open_teacher(tmp_path / "gone")


def test_a_run_learns_from_a_run(faces: Path, run: Path, tmp_path: Path) -> None:
    pupil = recipe(epochs=1, teacher=(str(run),), teacher_weight={"crowd": 0.3, "fer2013": 0.5})
    fit(pupil, faces, tmp_path, progress=False)
    assert len(list(tmp_path.glob("teacher-*.npz"))) == 1
    (scores,) = (tmp_path / "history.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert scores


def test_a_run_begins_where_another_ended(faces: Path, run: Path, tmp_path: Path) -> None:
    begun = recipe(epochs=1, labels="six", init=str(run), freeze_trunk=True)
    fit(begun, faces, tmp_path, progress=False)
    before, after = (torch.load(checkpoint_of(r), weights_only=True)["state_dict"] for r in (run, tmp_path))
    trunk = [k for k in before if k.startswith("net.trunk.")]
    assert len(trunk) > 10
    for name in trunk:
        torch.testing.assert_close(after[name], before[name], msg=name)
    assert after["net.heads.labels.weight"].shape == (6, 16)


CROPS = golden_crops()


def test_training_goes_on_from_the_bundled_model() -> None:
    net = build("residual", {"crowd": 8, "labels": 3})
    pictures = torch.from_numpy(prepare(CROPS, net.input))
    assert begin(net, "expression", CROPS) == ("crowd",)
    told = torch.softmax(net.eval()(pictures)[0] / dict(Expression().card.temperatures)["crowd"], 1)
    np.testing.assert_allclose(told.detach().numpy(), Expression().read(CROPS).crowd, atol=2e-4)
    with torch.no_grad():
        apart = (net.train().embed(pictures) - net.eval().embed(pictures)).abs().mean()
        assert apart < 0.05 * net.embed(pictures).abs().mean(), "norms that leap when training begins"


@pytest.mark.parametrize(
    ("net", "model", "message"),
    [
        ("residual-s", "expression", "does not fit; name the net that the model is made of"),
        ("residual", "expression-int8", "an eight-bit model cannot be trained on"),
    ],
)
def test_a_model_that_cannot_be_begun_with(net: str, model: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        begin(build(net, {"labels": 3}), model, CROPS)


def test_heads_that_fit_are_taken_over(run: Path, tmp_path: Path) -> None:
    both = build("residual", {"crowd": 8, "fer2013": 6}, **TINY)
    assert begin(both, run, CROPS) == ("crowd",)
    _, old = open_net(run)
    torch.testing.assert_close(both.heads["crowd"].weight, old.heads["crowd"].weight)
    with pytest.raises(ModelError, match="does not fit the trunk"):
        begin(build("residual", {"labels": 3}, widths=[8, 8], depths=[1, 1], stem=4), run, CROPS)
    with pytest.raises(SourceNotFoundError, match=r"no best\.ckpt and no last\.ckpt in it"):
        begin(both, tmp_path, CROPS)
    (tmp_path / "x.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(ModelError, match=r"x\.ckpt: not a checkpoint of mien"):
        open_net(tmp_path / "x.ckpt")


def test_a_frozen_trunk_gets_no_gradient_and_its_norms_stay(faces: Path) -> None:
    from mien.train.module import ExpressionModule
    from mien.train.nets import freeze_trunk

    frozen = recipe(freeze_trunk=True)
    net = freeze_trunk(new_net(frozen))
    data = FacesData(faces, frozen)
    module = ExpressionModule(frozen, net, steps=data.steps).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    batch = next(iter(data.train_dataloader()))
    losses = module._losses(batch.pictures, batch.shares, batch.weights, module.trained)
    sum(losses.values()).backward()
    assert all(p.grad is None for p in net.trunk.parameters())
    assert all(float(p.grad.abs().sum()) > 0 for p in net.heads.parameters())
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_an_epoch_is_scored_as_scikit_learn_and_torchmetrics_score_it() -> None:
    rng = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 4, (90,), generator=rng)  # the fifth class is never there
    logits = torch.randn(90, 6, generator=rng) + 2 * torch.nn.functional.one_hot(truth, 6)
    logits[:, 4] -= 50  # and this one is never named
    weights = torch.rand(90, generator=rng)
    weights[:10] = 0
    losses = torch.rand(90, generator=rng)
    tally = Tally({"labels": 6})
    for rows in (slice(0, 7), slice(7, 50), slice(50, 90)):
        tally.add(
            "labels", losses[rows], weights[rows], logits[rows], torch.nn.functional.one_hot(truth[rows], 6).float()
        )
    kept, said = truth[10:], logits[10:].argmax(1)
    assert tally.loss("labels") == pytest.approx(float((losses * weights).sum() / weights.sum()), rel=1e-6)
    assert tally.accuracy("labels") == pytest.approx(accuracy_score(kept, said))
    assert tally.f1("labels") == pytest.approx(f1_score(kept, said, average="macro"))
    assert tally.f1("labels") == pytest.approx(float(multiclass_f1_score(said, kept, 6, average="macro")))
    empty = Tally({"labels": 6})
    assert (empty.loss("labels"), empty.accuracy("labels"), empty.f1("labels")) == (0, 0, 0)


def test_what_is_monitored_is_there(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(
        OptionError, match=r"monitor cannot be 'val_acc'; choose from train_loss, val_loss, train_accuracy"
    ):
        fit(recipe(labels="six", monitor="val_acc"), faces, tmp_path, progress=False)
    assert not (tmp_path / "last.ckpt").exists()
    fit(recipe(epochs=1, labels="six", monitor="val_f1"), faces, tmp_path, progress=False)
    header = (tmp_path / "history.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert set(header) == {"epoch", "seconds", "lr", *metric_names(["labels"])}
    state = json.loads((tmp_path / "state.json").read_text(encoding="utf-8"))
    assert state["best"]["metric"] == "val_f1"
    assert (state["train_faces"], state["validation_faces"], state["dropped"]) == (64, 7, 1)
    assert state["labels"] == {"labels": list(SIX)}


def test_a_stage_that_the_net_cannot_take_is_named() -> None:
    with pytest.raises(OptionError, match="net 'simple256' takes 48×48 pixels alone; a stage wants 32"):
        new_net(recipe(net="simple256", net_options={}, labels="six"))


def test_cutmix_puts_a_box_of_another_face_in() -> None:
    x = torch.arange(6.0)[:, None, None, None].expand(6, 3, 20, 20).contiguous()
    target = torch.eye(6)
    seen = set()
    for seed in range(20):
        mixed, blended = cut(x, (target,), 1.0, torch.Generator().manual_seed(seed))
        strange = mixed != x
        moved = strange.any(3).any(2).any(1)
        share = strange[moved].float().mean((1, 2, 3))
        own = blended.diagonal()[moved]
        np.testing.assert_allclose(own, 1 - share, atol=1e-5)
        torch.testing.assert_close(blended.sum(1), torch.ones(6))
        seen.add(round(float(own.min()) if len(own) else 1, 2))
    assert len(seen) > 5
    untouched = cut(x, (target,), 0.0, torch.Generator())
    assert untouched[0] is x


def test_colours_are_augmented_alike() -> None:
    x = torch.rand(6, 1, 48, 48, generator=torch.Generator().manual_seed(1))
    plain = Augment(noise=0)
    grey = plain(x, torch.Generator().manual_seed(5), 40)
    rgb = plain(x.expand(6, 3, 48, 48), torch.Generator().manual_seed(5), 40)
    assert rgb.shape == (6, 3, 40, 40)
    for channel in range(3):
        torch.testing.assert_close(rgb[:, channel : channel + 1], grey, atol=1e-5, rtol=1e-5)


def test_one_switch_leaves_the_pictures_as_they_are() -> None:
    x = torch.rand(4, 1, 48, 48, generator=torch.Generator().manual_seed(1))
    off = Augment(enabled=False, mixup=0.4, cutmix=0.4)
    generator = torch.Generator().manual_seed(0)
    assert off(x, generator, 48) is x
    assert off(x, generator, 32).shape == (4, 1, 32, 32)
    assert off.blend(x, (x,), generator, mixup=0.4) == (x, x)
    still = Augment(rotate=0, scale=0, shift=0, shear=0, gamma=0, blur=0, noise=0, erase=0, mirror=False)
    torch.testing.assert_close(still(x, generator, 48), x, atol=1e-5, rtol=1e-5)
