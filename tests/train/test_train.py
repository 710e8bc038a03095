"""Training, from pictures to a checkpoint."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tiny import TINY, recipe, weights

from mien.data.split import split_training
from mien.errors import DataError, OutputError, ResumeError
from mien.models.prepare import prepare
from mien.train import monitor
from mien.train.augment import Augment, mix
from mien.train.checkpoint import Atomic
from mien.train.fit import fit
from mien.train.loader import INPUT, Batches
from mien.train.nets import NETS
from mien.train.recipe import plain_recipe
from mien.train.targets import make_targets
from mien.train.trained import open_net

# Lightning warns of folders that are not empty, of few batches and of its own use of torch.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}:{room}.*")
    for kind in ("UserWarning", "FutureWarning", "DeprecationWarning")
    for room in ("lightning", "torch")
]


@pytest.mark.parametrize("size", [32, 48, 56])
def test_augmenting_keeps_range_and_gives_the_size(size: int) -> None:
    x = torch.rand(6, 1, 48, 48, generator=torch.Generator().manual_seed(1))
    for seed in range(8):
        out = Augment(blur=0.5, noise=0.5)(x, torch.Generator().manual_seed(seed), size)
        assert out.shape == (6, 1, size, size)
        assert out.min() >= 0
        assert out.max() <= 1


def test_the_seed_decides_the_augmentation() -> None:
    x = torch.rand(6, 1, 48, 48, generator=torch.Generator().manual_seed(1))

    def made(seed: int) -> torch.Tensor:
        return Augment()(x, torch.Generator().manual_seed(seed), 48)

    assert torch.equal(made(3), made(3))
    assert not torch.equal(made(3), made(4))


def test_switched_off_it_is_the_picture_or_its_mirror() -> None:
    x = torch.rand(16, 1, 48, 48, generator=torch.Generator().manual_seed(1))
    off = Augment(rotate=0, scale=0, shift=0, shear=0, gamma=0, blur=0, noise=0, erase=0)
    out = off(x, torch.Generator().manual_seed(0), 48)
    same = torch.isclose(out, x, atol=1e-4).flatten(1).all(1)
    mirrored = torch.isclose(out, x.flip(3), atol=1e-4).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert same.any()
    assert mirrored.any()


def test_erasing_takes_a_rectangle() -> None:
    x = torch.linspace(0, 1, 48 * 48).reshape(1, 1, 48, 48).repeat(32, 1, 1, 1)
    only = Augment(rotate=0, scale=0, shift=0, shear=0, gamma=0, blur=0, noise=0, erase=1)
    flat = (only(x, torch.Generator().manual_seed(0), 48) - 0.5).abs() < 1e-3
    assert 0.02 < flat.float().mean() < 0.3


def test_mixing_keeps_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    x, target = torch.rand(8, 1, 4, 4), torch.softmax(torch.randn(8, 5), 1)
    mixed, targets = mix(x, (target,), 0.4, generator)
    assert not torch.equal(mixed, x)
    torch.testing.assert_close(targets.sum(1), torch.ones(8))
    torch.testing.assert_close(targets.mean(0), target.mean(0))
    assert all(a is b for a, b in zip(mix(x, (target,), 0, generator), (x, target), strict=True))


def test_faces_of_the_test_split_are_not_trained_on(faces: Path) -> None:
    split = split_training(faces, validation=0.1, seed=1)
    assert split.dropped == 1
    assert len(split.train) + len(split.validation) == 71
    assert not np.isin(split.train.group, split.validation.group).any()


def test_the_seed_decides_who_is_held_out(faces: Path) -> None:
    held = [split_training(faces, validation=0.2, seed=s).validation.name.tolist() for s in (1, 1, 2)]
    assert held[0] == held[1] != held[2]


def test_nothing_to_train_on_is_named(tmp_path: Path, faces: Path) -> None:
    table = pq.read_table(faces / "faces.parquet")
    pq.write_table(table.filter(pa.compute.equal(table["usage"], "PublicTest")), tmp_path / "test.parquet")
    with pytest.raises(DataError, match="no face of the split 'Training'"):
        split_training(tmp_path, validation=0.1, seed=1)


def test_batches_are_prepared_as_every_crop_is(faces: Path) -> None:
    held = split_training(faces, validation=0.1, seed=1).train
    batch = next(iter(Batches(held, make_targets(held, recipe(), weighted=True), batch=16, seed=1, epoch=None)))
    np.testing.assert_array_equal(batch.pictures.numpy(), prepare(held.images[:16], INPUT))
    np.testing.assert_array_equal(batch.weights["crowd"].numpy(), held.crowd_weight()[:16])
    np.testing.assert_allclose(batch.shares["crowd"].sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(batch.shares["crowd"].argmax(1), held.votes[:16, :8].argmax(1))
    np.testing.assert_array_equal(batch.shares["fer2013"].argmax(1), held.label[:16])
    assert batch.totals["fer2013"] == 16


def test_an_epoch_has_its_own_order_and_every_epoch_the_same_faces(faces: Path) -> None:
    held = split_training(faces, validation=0.1, seed=1).train
    targets = make_targets(held, recipe(), weighted=True)

    def order(epoch: int) -> tuple[np.ndarray, set[int]]:
        batches = list(Batches(held, targets, batch=8, seed=1, epoch=epoch))
        return np.concatenate([b.pictures.numpy() for b in batches]), {b.seed for b in batches}

    (first, seeds), (again, _), (second, others) = order(0), order(0), order(1)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)
    assert not seeds & others
    assert len(first) == len(held) // 8 * 8


def test_twenty_steps_learn_something(run: Path) -> None:
    rows = (run / "history.csv").read_text(encoding="utf-8").splitlines()
    header, *epochs = [row.split(",") for row in rows]
    losses = [float(e[header.index("val_loss")]) for e in epochs]
    assert len(losses) == 5
    assert losses[-1] < losses[0]
    assert json.loads((run / "recipe.json").read_text(encoding="utf-8"))["name"] == "tiny"


def test_a_run_is_not_overwritten(run: Path, faces: Path) -> None:
    with pytest.raises(ResumeError, match="holds a run already; add --resume"):
        fit(recipe(), faces, run, progress=False)


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path: Path, faces: Path) -> None:
    two = recipe(epochs=2)
    fit(two, faces, tmp_path / "straight", progress=False)
    fit(two, faces, tmp_path / "broken", until=1, progress=False)
    half = weights(tmp_path / "broken")
    fit(two, faces, tmp_path / "broken", resume=True, progress=False)
    straight, broken = weights(tmp_path / "straight"), weights(tmp_path / "broken")
    moved = [k for k in straight if straight[k].is_floating_point() and not torch.allclose(half[k], straight[k])]
    assert len(moved) > len(straight) / 2
    for name, value in straight.items():
        torch.testing.assert_close(broken[name], value, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("name", NETS)
def test_every_net_trains(name: str, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "find_spec", lambda _: None)  # no curves: they take longer than the training
    options = TINY if name == "residual" else {}
    plan = plain_recipe(name, settings=["epochs=2", "batch=8", "precision='32-true'", "labels='three'", "smoothing=0"])
    fit(dataclasses.replace(plan, net_options=options), faces, tmp_path, limit=16, progress=False)
    header, *epochs = [row.split(",") for row in (tmp_path / "history.csv").read_text(encoding="utf-8").splitlines()]
    assert len(epochs) == 2
    assert all(np.isfinite([float(e[header.index(c)]) for c in ("train_loss", "val_loss")]).all() for e in epochs)
    moved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert moved["global_step"] == 4
    assert open_net(tmp_path)[0].net == name


def test_what_cannot_be_written_is_one_line(tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="the folder of the run cannot be made"):
        fit(recipe(), faces, tmp_path / "file" / "run", progress=False)

    def full(*_arguments: object) -> None:
        message = "[enforce fail at inline_container.cc:672] . unexpected pos"
        raise RuntimeError(message)

    Atomic().save_checkpoint({"a": 1}, tmp_path / "last.ckpt")
    before = (tmp_path / "last.ckpt").read_bytes()
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match=r"last\.ckpt: the checkpoint cannot be written"):
        Atomic().save_checkpoint({"a": 2}, tmp_path / "last.ckpt")
    assert (tmp_path / "last.ckpt").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "last.ckpt"]
