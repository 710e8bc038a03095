"""`mien features` and `mien svm`: features kept in a file with heads trained on them, and the classical baseline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from ..data.importers import LabelledFaces, read_labelled
from ..data.split import split_training
from ..errors import MissingExtraError, OptionError
from ..evaluate.metrics import Estimate, accuracy
from ..labels import labels_from
from ..models.expression import Expression
from .console import answer, errors, meter, note
from .opening import needs_torch, open_model

if TYPE_CHECKING:
    from ..train.features import Features
    from ..train.nets import Net

__all__ = ["features", "svm"]

_Split = Annotated[str | None, typer.Option(help="Only this split of the data.")]
_Labels = Annotated[str | None, typer.Option(help="Labels of the data: a set's name, or smile,pout,neutral.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def features(
    model: Annotated[str, typer.Argument(help="A bundled model, an .onnx, a run, or a network that --weights fit.")],
    data: Annotated[Path, typer.Argument(help="Labelled faces: a file or a folder.")],
    out: Annotated[Path, typer.Option(help="The .npz to keep the features in; reused where nothing changed.")],
    weights: Annotated[Path | None, typer.Option(help="Weights for the trunk of the network MODEL.")] = None,
    split: _Split = None,
    labels: _Labels = None,
    head: Annotated[bool, typer.Option("--head", help="Train a head on them and score it on held-out faces.")] = False,
    on: Annotated[str | None, typer.Option(help="Score the head on this split; default: a tenth of Training.")] = None,
    hidden: Annotated[int, typer.Option(help="Width of a dense layer in the head; 0: linear.")] = 0,
    seed: Annotated[int, typer.Option(help="Decides which faces are held out, and the head's start.")] = 0,
    as_json: _Json = False,
) -> None:
    """Compute a trunk's features once, say how many are zero, and train a head on them in seconds."""
    with errors():
        needs_torch()
        from ..train.features import extract, train_head

        faces = _faces(data, labels, split)
        with _progress(shown=not as_json) as tell:
            found = extract(_model(model, weights), faces, cache=out, progress=tell)
        document = _zeros(found) | {"out": str(out)}
        lines = [
            f"{len(found)} faces, {found.values.shape[1]} features, in {out}",
            f"zeros: {found.zeros:.4f} of all numbers; {found.dead} features are zero for every face",
        ]
        if head:
            trained = train_head(found, faces, hidden=hidden, on=on, seed=seed)
            document["head"] = {n: asdict(getattr(trained, n)) for n in ("held_out", "trained_on", "chance")}
            if on is None:
                note(
                    "the head has not seen the held-out faces; a trunk that learned from Training has, and it flatters"
                )
            lines += [_line(on or "held out", trained.held_out), _line("trained on", trained.trained_on)]
            lines.append(_line("chance, commonest label", trained.chance))
        _tell(document, lines, as_json=as_json)


def svm(
    data: Annotated[Path, typer.Argument(help="Labelled faces: a file or a folder.")],
    split: Annotated[str | None, typer.Option(help="Score on this split; default: a tenth of Training.")] = None,
    out: Annotated[Path | None, typer.Option(help="The .npz to keep the machine in.")] = None,
    kernel: Annotated[str, typer.Option(help="rbf, or linear, which is faster and less accurate.")] = "rbf",
    labels: _Labels = None,
    limit: Annotated[int | None, typer.Option(help="Learn from only so many faces, drawn by the seed.")] = None,
    seed: Annotated[int, typer.Option(help="Decides which faces are held out.")] = 0,
    as_json: _Json = False,
) -> None:
    """Fit the classical baseline, a support vector machine on oriented gradients, and score it."""
    with errors():
        if find_spec("sklearn") is None:
            raise MissingExtraError("scikit-learn", "train")
        from ..train.classic import fit_svm

        faces = _faces(data, labels, None)
        parts = split_training(faces, validation=0.1, seed=seed)
        train, test = _drawn(parts.train, limit, seed), faces.of_split(split) if split else parts.validation
        started = time.monotonic()
        machine = fit_svm(train, kernel=kernel, seed=seed)
        seconds = time.monotonic() - started
        if out:
            machine.save(out)
        test = test[test.label >= 0]
        held, chance = machine.score(test), _chance(train, test)
        document: dict[str, Any] = {"faces": len(train), "seconds": round(seconds, 1), "kernel": kernel}
        document |= {"split": split or "held out of Training", "accuracy": asdict(held), "chance": asdict(chance)}
        lines = [f"fitted on {len(train)} faces in {seconds:.1f} s", _line(split or "held out", held)]
        lines.append(_line("chance, commonest label", chance))
        _tell(document, lines, as_json=as_json)


def _faces(data: Path, labels: str | None, split: str | None) -> LabelledFaces:
    faces = read_labelled(data, labels=labels_from(labels) if labels else None, split=split)
    for problem in faces.problems:
        note(f"left out: {problem}")
    return faces


def _model(model: str, weights: Path | None) -> Expression | Net:
    from ..train.nets import NETS, build, load_trunk

    if weights is None and model in NETS:
        msg = f"{model!r} is a network without weights; name a file of them with --weights, or a trained model"
        raise OptionError(msg)
    if weights is None:
        return open_model(model)
    return load_trunk(build(model), weights)


def _drawn(faces: LabelledFaces, limit: int | None, seed: int) -> LabelledFaces:
    if limit is not None and limit < 1:
        msg = f"--limit is {limit}; learn from one face or more"
        raise OptionError(msg)
    if limit is None or limit >= len(faces):
        return faces
    return faces[np.sort(np.random.default_rng(seed).permutation(len(faces))[:limit])]


def _chance(train: LabelledFaces, test: LabelledFaces) -> Estimate:
    commonest = np.bincount(train.label[train.label >= 0]).argmax()
    return accuracy(test.label, np.full(len(test), commonest))


def _zeros(found: Features) -> dict[str, Any]:
    return {
        "faces": len(found),
        "features": found.values.shape[1],
        "zeros": found.zeros,
        "dead": found.dead,
        "zero_share": [round(float(share), 4) for share in found.zero_share],
    }


def _line(what: str, estimate: Estimate) -> str:
    value = f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]"
    return f"{what}: accuracy {value}, n {estimate.n}"


def _tell(document: dict[str, Any], lines: list[str], *, as_json: bool) -> None:
    if as_json:
        answer(document)
        return
    for line in lines:
        typer.echo(line)


@contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[int, int], None]]:
    started = time.monotonic()
    with meter(shown=shown, unit="faces") as (bar, task):

        def tell(done: int, total: int) -> None:
            if bar:
                rate = f"{done / max(time.monotonic() - started, 1e-6):.0f}"
                bar.update(task, description="features", completed=done, total=total, rate=rate)

        yield tell
