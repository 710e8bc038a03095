"""From a training run to a model file: temperatures fitted, ONNX checked against torch, card and scores written."""

from __future__ import annotations

import datetime
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.importers import LabelledFaces, read_labelled
from ..data.split import Split, split_training
from ..errors import ModelError, OptionError
from ..evaluate.metrics import Estimate
from ..evaluate.run import PartScores, Report, evaluate
from ..models.expression import Expression
from ..zoo.card import Head, ModelCard, Score
from .answer import Answer, answers, folded, load_net, rounded, to_onnx
from .bundle import golden_crops, placed, write_card, write_golden, write_network
from .calibrate import fit_temperature, temperatures
from .quantize import quantize
from .recipe import BOTH, Recipe
from .revision import revision
from .targets import relabelled

__all__ = [
    "Answer",
    "export",
    "fit_temperature",
    "folded",
    "golden_crops",
    "load_net",
    "open_run",
    "quantized",
    "to_onnx",
]

Template = tuple[tuple[float, float], ...]

GOLDEN_TOLERANCE = 1e-3
_EXACT, _COMPARED = 1e-4, 256
_TEST_SPLITS = ("PublicTest", "test")
_NOT_MEASURED = "Not calibrated and not measured: it was exported without data."
_SUMMARY = "Expression of a face: the share of votes that ten taggers would give eight expressions, and FER2013's label"
_NOTES = (
    "Names what a face shows and how people would label it, not what somebody feels.",
    "Learned from small, mostly frontal grey faces found on the web; disgust and contempt are rare in them.",
)


@dataclass(frozen=True, slots=True)
class _Data:
    """Labelled faces with the model's labels, the name of where they lie, and which of them decide."""

    faces: LabelledFaces
    name: str
    split: Split


def export(
    run: str | Path,
    to: str | Path,
    *,
    data: str | Path | None = None,
    name: str = "expression",
    template: Template | None = None,
    half: bool = True,
    int8: bool = False,
    checkpoint: str = "last",
    date: str | None = None,
) -> ModelCard:
    """Make a model file of a training run, with its card and golden vectors beside it.

    Writes ``to``, and beside it ``.card.json`` and ``.golden.npz``, each under a temporary name first. The bytes of
    the model depend on the checkpoint, the data and the versions of torch, onnx and ONNX Runtime alone.

    Parameters
    ----------
    run
        The folder of a run, or a ``.ckpt``.
    to
        The ``.onnx`` file to write; an existing one is replaced.
    data
        Labelled faces in any form that `data.importers.read_labelled` reads. The temperatures are fitted on the part
        of Training that the recipe held out; the scores are measured on PublicTest, or the split ``test``, where the
        data has it, which decides nothing. None: no temperature, no score, and the card says so.
    name
        The model's name.
    template
        Where the five points lie in a crop, for the card; None: `models.align.FER2013_TEMPLATE`.
    half
        Keep the weights as float16, half the file; they are widened when the file is opened.
    int8
        Quantise the model to eight-bit integers, see `quantize.quantize`; needs ``data``.
    checkpoint
        ``last`` or ``best``, where ``run`` is a folder.
    date
        For the card, ``YYYY-MM-DD``; None: today.

    Returns
    -------
    ModelCard
        The card that was written.

    Raises
    ------
    SourceNotFoundError
        If the run has no such checkpoint or no recipe.
    OptionError
        If ``int8`` is asked for without data, or ``to`` is no ``.onnx``.
    ModelError
        If the checkpoint does not fit the recipe, or the ONNX file does not answer as torch does.
    DataError
        If the data has other labels than the recipe's, or nothing to hold out.
    OutputError
        If the folder of ``to`` cannot be written.
    """
    if int8 and data is None:
        msg = "int8 is calibrated on training faces and its loss measured on held-out ones: name the data"
        raise OptionError(msg)
    recipe, net = load_net(run, checkpoint=checkpoint)
    held = None if data is None else _data(data, recipe)
    net = rounded(net) if half else net
    heads = tuple(Head(n, labels) for n, labels in recipe.heads().items())
    found = {h.name: 1.0 for h in heads}
    if held is not None:
        logits = answers(net, tuple(found), held.split.validation.images)
        found = temperatures(logits, held.split.validation, recipe)
    card = ModelCard(
        name=name,
        task="expression",
        file=f"weights/{Path(to).name}",
        sha256="",
        size=0,
        licence=recipe.card.get("licence", "not stated"),
        origin=recipe.card.get("origin", f"trained with the recipe {recipe.name!r}"),
        data=recipe.card.get("data", "not stated"),
        summary=_summary(recipe, heads),
        parameters=sum(p.numel() for p in net.parameters()),
        date=date or datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        commit=revision(),
        input=replace(net.input, template=template or _default_template()),
        labels=heads[0].labels,
        heads=heads,
        temperatures=() if held is None else tuple(found.items()),
        notes=_notes(recipe, held),
    )
    answer = Answer(net, found).eval()
    with placed(Path(to)) as file:
        card = _write(file, card, answer, held, half=half)
        if int8 and held is not None:
            card = quantize(file, file, held.split)
        if held is not None:
            card = _scored(file, card, held)
    return card


def open_run(run: str | Path, *, checkpoint: str = "last", threads: int = 0) -> Expression:
    """Open a training run as a model, uncalibrated. Its file is temporary and goes when the model does.

    Parameters
    ----------
    run, checkpoint
        As for `export`.
    threads
        Threads of ONNX Runtime; 0 lets it choose.

    Raises
    ------
    SourceNotFoundError, ModelError
        As for `export`.
    """
    folder = tempfile.mkdtemp(prefix="mien-run-")
    try:
        file = Path(folder) / "run.onnx"
        export(run, file, name=Path(run).resolve().stem, half=False, checkpoint=checkpoint)
        model = Expression(file, threads=threads)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True)
    return model


def quantized(
    model: str | Path, to: str | Path, *, data: str | Path, name: str | None = None, validation: float = 0.05
) -> ModelCard:
    """Quantise a model that is an ``.onnx`` already, and score it as `export` does.

    Parameters
    ----------
    model
        The path of an ``.onnx`` with its card, or a bundled model's name.
    to, data
        As for `export`.
    name
        The new model's name; None: the old one's, ending in ``-int8``.
    validation
        The share of Training to choose and measure with. Give that of the recipe: other faces were trained on.

    Raises
    ------
    ModelError, DataError, OptionError
        If the model or the data cannot be used, or the file not be written.
    """
    faces = read_labelled(data)
    held = _Data(faces, Path(data).name, split_training(faces, validation=validation, seed=1))
    with placed(Path(to)) as file:
        return _scored(file, quantize(model, file, held.split, name=name), held)


def _data(data: str | Path, recipe: Recipe) -> _Data:
    faces = relabelled(read_labelled(data), recipe)
    split = split_training(faces, validation=recipe.validation, seed=recipe.seed, by=recipe.split_by)
    return _Data(faces, Path(data).name, split)


def _summary(recipe: Recipe, heads: tuple[Head, ...]) -> str:
    return _SUMMARY if recipe.labels == BOTH else f"Expression of a face: {', '.join(heads[0].labels)}"


def _notes(recipe: Recipe, held: _Data | None) -> tuple[str, ...]:
    known = _NOTES if recipe.labels == BOTH else _NOTES[:1]
    return known if held is not None else (*known, _NOT_MEASURED)


def _default_template() -> Template:
    from ..models.align import FER2013_TEMPLATE

    return tuple((float(x), float(y)) for x, y in FER2013_TEMPLATE)


def _write(file: Path, card: ModelCard, answer: Answer, held: _Data | None, *, half: bool) -> ModelCard:
    """Write the three files and return the card."""
    card = write_network(file, to_onnx(answer, half=half), card)
    crops = golden_crops()
    _compare(Expression(file), answer, crops)
    if held is not None:
        _compare(Expression(file), answer, held.split.validation.images[:_COMPARED])
    write_golden(file, answers(answer, tuple(answer.temperatures), crops), GOLDEN_TOLERANCE)
    return card


def _compare(model: Expression, answer: Answer, crops: NDArray[np.uint8]) -> None:
    said, meant = model.read(crops), answers(answer, tuple(answer.temperatures), crops)
    gap = max(float(np.abs(said.scores[h] - meant.scores[h]).max()) for h in meant.scores)
    if not gap <= _EXACT:
        msg = f"the ONNX file differs from torch by {gap:.2g} on {len(crops)} faces; at most {_EXACT:g} is allowed"
        raise ModelError(msg)


def _scored(file: Path, card: ModelCard, held: _Data) -> ModelCard:
    """Measure the written file on the data's test split, if it has one, and note the scores in its card."""
    split = next((s for s in _TEST_SPLITS if (held.faces.split == s).any()), None)
    if split is not None:
        report = evaluate(Expression(file), held.faces, split=split)
        card = replace(card, scores=tuple(_scores(report, card, held.name)))
    write_card(file, card)
    return card


def _scores(report: Report, card: ModelCard, data: str) -> Iterator[Score]:
    for split, part in ((report.split, report.as_given), (f"{report.split}, de-duplicated", report.deduplicated)):
        for what, metric, found in _measured(part, card, data):
            yield Score(
                data=what,
                split=split,
                n=found.n,
                metric=metric,
                value=round(found.value, 4),
                low=round(found.low, 4),
                high=round(found.high, 4),
                date=card.date,
                commit=card.commit,
            )


def _measured(part: PartScores, card: ModelCard, data: str) -> Iterator[tuple[str, str, Estimate]]:
    if part.fer2013 is not None:
        yield "FER2013", "accuracy of the fer2013 head, 7 labels", part.fer2013.accuracy
        yield "FER2013", "balanced accuracy of the fer2013 head, 7 labels", part.fer2013.balanced_accuracy
    if part.crowd is not None:
        voted = "FER2013 with FER+ votes"
        first = part.crowd.first_choice.accuracy
        yield voted, "agreement of the crowd head with the first choice, 8 labels", first
        yield voted, "agreement of the crowd head by the FER+ majority rule, 8 labels", part.crowd.ferplus_majority
    if part.labels is not None:
        head = f"the {card.heads[0].name} head, {len(part.labels.classes)} labels"
        yield data, f"accuracy of {head}", part.labels.accuracy
        yield data, f"balanced accuracy of {head}", part.labels.balanced_accuracy
