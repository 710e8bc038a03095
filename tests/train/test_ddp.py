"""Two processes give what one gives."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")

import torch
from killed import history, train, wanted

from mien.data.importers import read_labelled
from mien.data.split import split_training
from mien.train.loader import Batches, Shard
from mien.train.targets import make_targets

# Lightning warns of folders that are not empty, of few batches and of its own use of torch.
pytestmark = [pytest.mark.usefixtures("undrawn")] + [
    pytest.mark.filterwarnings(f"ignore::{kind}:{room}.*")
    for kind in ("UserWarning", "FutureWarning", "DeprecationWarning")
    for room in ("lightning", "torch")
]

HERE = Path(__file__).parent
# Norms that see half of a batch, and draws of their own, would be the noise; without them both must agree.
STILL = [
    "augment.enabled=false",
    "net_options={widths = [8, 16], depths = [1, 1], stem = 4, dropout = 0}",
    "freeze_trunk=true",
    "batch=9",
]


def test_two_processes_give_what_one_gives(faces: Path, tmp_path: Path) -> None:
    paths = os.pathsep.join([str(HERE), str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, HERE / "killed.py", faces, tmp_path / "two", *STILL, "--devices", "2"],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    train(faces, tmp_path / "one", settings=STILL)
    two, one = (history(tmp_path / r) for r in ("two", "one"))
    assert len(two) == len(one) == 3
    for mine, theirs in zip(two, one, strict=True):
        assert mine.keys() == theirs.keys()
        for name, value in theirs.items():
            assert float(mine[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name
    assert float(one[-1]["val_loss"]) < float(one[0]["val_loss"])
    a, b = (torch.load(tmp_path / r / "last.ckpt", weights_only=True)["state_dict"] for r in ("one", "two"))
    for name, weight in a.items():
        torch.testing.assert_close(b[name], weight, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize(("world", "parts"), [(2, 1), (3, 1), (1, 4), (3, 2), (16, 2)])
def test_the_shards_of_a_step_are_the_step(faces: Path, world: int, parts: int) -> None:
    held = split_training(read_labelled(faces), validation=0.1, seed=1).train
    targets = make_targets(held, wanted(), weighted=True)
    whole = list(Batches(held, targets, batch=17, seed=1, epoch=0))
    shards = [
        list(Batches(held, targets, batch=17, seed=1, epoch=0, shard=Shard(rank, world, parts)))
        for rank in range(world)
    ]
    assert {len(s) for s in shards} == {len(whole) * parts}
    for step, batch in enumerate(whole):
        pieces = [s[step * parts + part] for s in shards for part in range(parts)]
        assert len({len(p.pictures) for p in pieces}) == 1
        assert len({p.seed for p in pieces}) == len(pieces)
        assert all(p.totals == batch.totals for p in pieces)
        counted = [p.pictures[p.weights["fer2013"] > 0] for p in pieces]
        found = torch.cat(counted).flatten(1).sum(1).sort().values
        np.testing.assert_allclose(found, batch.pictures.flatten(1).sum(1).sort().values)
        assert sum(float(p.weights["crowd"].sum()) for p in pieces) == pytest.approx(batch.totals["crowd"])


def test_every_held_out_face_is_judged_once(faces: Path) -> None:
    held = split_training(read_labelled(faces), validation=0.1, seed=1).train
    targets = make_targets(held, wanted(), weighted=False)
    shards = [list(Batches(held, targets, batch=20, seed=1, epoch=None, shard=Shard(rank, 3))) for rank in range(3)]
    assert {len(s) for s in shards} == {-(-len(held) // 20)}
    assert sum(float(b.weights["fer2013"].sum()) for s in shards for b in s) == len(held)
