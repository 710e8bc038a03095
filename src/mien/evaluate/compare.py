"""Several models on the same faces in one run: ours, foreign ONNX files, and other packages in their own Python."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.importers import LabelledFaces
from ..errors import DataError, ModelError, OptionError, UnknownLabelError
from ..labels import LabelSet, projection
from ..models.expression import Expression
from ..zoo.card import Head
from ..zoo.session import usable_cpus
from . import metrics
from .adapters.foreign import describe
from .adapters.process import PEERS, Facts, Weight, Worker
from .comparison import Comparison, Row, Timing
from .graph_cut import model_file
from .metrics import Estimate
from .paired import paired
from .truth import CROWD, truth

__all__ = ["BATCHES", "Entrant", "compare", "foreign", "ours", "peer"]

BATCHES = (1, 64)
"""Batch sizes that are timed."""

Progress = Callable[[str], None]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Entrant:
    """A model that takes part.

    Attributes
    ----------
    name
        What the table calls it.
    kind
        ``mien``, ``onnx``, or one of `adapters.process.PEERS`.
    python
        The interpreter that runs it.
    options
        What its kind needs to know.
    file_bytes
        Size of the model's file where no package brings it.
    model
        Held so that a temporary file lives as long: that of a training run goes when its model does.
    """

    name: str
    kind: str
    python: Path = field(default_factory=lambda: Path(sys.executable))
    options: Mapping[str, Any] = field(default_factory=dict)
    file_bytes: int = 0
    model: Expression | None = field(default=None, repr=False, compare=False)


def ours(name: str, model: Expression, labels: LabelSet) -> Entrant:
    """Return a model of mien's own kind as an entrant, with the head that answers in the labels, or comes nearest.

    Of the heads that name exactly these labels the first is taken, then the first whose labels have all a place among
    these, then the first of all.
    """
    exact = [h for h in model.heads if h.labels.labels == labels.labels]
    whole = [h for h in model.heads if not _homeless(h.labels, labels)]
    head = (exact or whole or list(model.heads))[0]
    file = model_file(model)
    bundled = file.is_relative_to(Path(__file__).parents[1])
    return Entrant(
        name=name,
        kind="mien",
        options={"model": model.card.name if bundled else str(file.resolve()), "head": head.name},
        file_bytes=0 if bundled else file.stat().st_size,
        model=model,
    )


def foreign(text: str) -> Entrant:
    """Return a foreign ONNX file as an entrant; see `adapters.foreign.describe`."""
    described = describe(text)
    file = Path(described.file)
    return Entrant(name=file.name, kind="onnx", options=described.as_dict(), file_bytes=file.stat().st_size)


def peer(text: str) -> Entrant:
    """Return another package as an entrant, from ``fer=/path/to/python``.

    Raises
    ------
    OptionError
        If it is no package with an adapter, or no Python is named.
    """
    name, sign, python = text.partition("=")
    if name not in PEERS:
        msg = f"unknown peer {name!r}; there are adapters for {', '.join(PEERS)}"
        raise OptionError(msg)
    if not sign or not python:
        msg = f"peer {name!r} runs in its own Python; name it: --peer {name}=/path/to/python"
        raise OptionError(msg)
    return Entrant(name=name, kind=name, python=Path(python))


def compare(
    entrants: Sequence[Entrant],
    faces: LabelledFaces,
    *,
    data: str,
    split: str,
    labels: LabelSet,
    rounds: int = 7,
    seconds: float = 0.3,
    timeout: float = 600.0,
    progress: Progress = lambda _: None,
) -> Comparison:
    """Compare models on the same faces, each in a process of its own with one thread.

    Parameters
    ----------
    entrants
        The models; the others are tested against the first.
    faces
        All splits; those of the others serve to find pixel-equal pictures.
    data
        What the data is called.
    split
        The split to measure on.
    labels
        The labels to answer in. Scores of other sets are carried there (`labels.projection`); what has no place there
        is taken off and the rest scaled to 1. A label that some model cannot give is left out for all.
    rounds, seconds
        Rounds of the timing, in each of which every model reads for so long at each batch size.
    timeout
        Seconds that a model may take to start, and for each answer.
    progress
        Told what is being done.

    Raises
    ------
    ModelError
        If the first model cannot be used. Another that cannot stands in the comparison's ``problems``.
    DataError
        If the split has no faces for the labels, or the models share fewer than two labels.
    OptionError
        If two entrants have one name, or the rounds or seconds are none.
    """
    _check(entrants, rounds, seconds)
    chosen, also_elsewhere, repeated = _distinct(faces, split)
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        bench = _Bench(entrants, timeout, stack, progress)
        bench.start()
        case = _Case.of(chosen, labels, [LabelSet(name, f.labels) for name, f in bench.facts.items()])
        room = Path(folder)
        np.savez(room / "crops.npz", crops=case.images)
        bench.score(room, len(case.images))
        bench.time(room / "crops.npz", min(len(case.images), max(BATCHES)), rounds, seconds)
        load = _load()
        bench.weigh()
    names = list(bench.weights)
    held = {name: case.carried(bench.facts[name].labels, bench.scores[name]) for name in names}
    return Comparison(
        data=data,
        split=split,
        labels=case.labels,
        n=len(case.label),
        votes=int((case.target.sum(1) > 0).sum()) if case.target is not None else 0,
        chance_largest=float(np.bincount(case.label).max() / len(case.label)),
        chance_uniform=1 / len(case.labels),
        also_elsewhere=also_elsewhere,
        repeated=repeated,
        machine=f"{_processor()}, {platform.system()}, one thread each",
        rounds=rounds,
        rows=tuple(_row(bench, e, case, held) for e in entrants if e.name in names),
        problems=tuple(bench.problems),
        remarks=(*case.remarks, *_busy(load, rounds)),
    )


class _Bench:
    """The models in their processes; one that fails leaves with a line and the others go on."""

    def __init__(self, entrants: Sequence[Entrant], timeout: float, stack: ExitStack, progress: Progress) -> None:
        self._progress = progress
        self._workers = {
            e.name: stack.enter_context(Worker(e.name, e.kind, e.python, e.options, timeout)) for e in entrants
        }
        self._first = entrants[0].name
        self.facts: dict[str, Facts] = {}
        self.scores: dict[str, Floats] = {}
        self.peaks: dict[str, float | None] = {}
        self.times: dict[str, dict[int, list[tuple[float, float]]]] = {}
        self.weights: dict[str, Weight] = {}
        self.problems: list[str] = []

    def start(self) -> None:
        self._each("starting", lambda name, worker: self.facts.update({name: worker.start()}))

    def score(self, room: Path, n: int) -> None:
        def deed(name: str, worker: Worker) -> None:
            self.scores[name], self.peaks[name] = worker.score(room / "crops.npz", room / "scores.npz", n=n)

        self._each(f"reading {n} faces with", deed)

    def time(self, crops: Path, most: int, rounds: int, seconds: float) -> None:
        def deed(name: str, worker: Worker) -> None:
            held = self.times.setdefault(name, {})
            for batch in (b for b in BATCHES if b <= most):
                held.setdefault(batch, []).append(worker.milliseconds(crops, batch=batch, seconds=seconds))

        for i in range(rounds):
            self._each(f"timing, round {i + 1} of {rounds},", deed)

    def weigh(self) -> None:
        self._each("counting megabytes of", lambda name, worker: self.weights.update({name: worker.weigh()}))

    def _each(self, what: str, deed: Callable[[str, Worker], None]) -> None:
        for name, worker in list(self._workers.items()):
            self._progress(f"{what} {name}")
            try:
                deed(name, worker)
            except ModelError as error:
                if name == self._first:
                    raise
                self.problems.append(str(error))
                del self._workers[name]
                for known in (self.facts, self.scores, self.peaks, self.times):
                    known.pop(name, None)


@dataclass(frozen=True, slots=True)
class _Case:
    """The faces that count, in the labels that all models share."""

    images: NDArray[np.uint8]
    label: NDArray[np.int64]
    target: NDArray[np.float32] | None
    asked: LabelSet
    labels: tuple[str, ...]
    remarks: list[str]

    @classmethod
    def of(cls, faces: LabelledFaces, asked: LabelSet, sets: Sequence[LabelSet]) -> _Case:
        faces, gone = _within(faces, asked)
        beyond = [name for name in asked if name not in faces.labels and name in faces.vote_labels]
        held = truth(faces, Head(CROWD if beyond else "labels", asked))
        remarks = [f"the truth is the expression with the most votes: {faces.labels.name} lacks {', '.join(beyond)}"]
        shared, said = _shared(held.labels, sets)
        place = np.array([held.labels.index(name) for name in shared])
        kept = np.isin(held.label, place)
        if len(shared) < 2 or not kept.any():
            msg = f"the models and the data share {', '.join(shared) or 'no label'}; choose other --labels"
            raise DataError(msg)
        if lost := int((~kept).sum()):
            said.append(f"{lost} faces whose label was left out do not count")
        said += gone
        target = None if held.target is None else _scaled(held.target[kept][:, place])
        label = np.searchsorted(np.sort(place), held.label[kept])
        return cls(faces.images[held.index[kept]], label, target, held.labels, shared, remarks * bool(beyond) + said)

    def carried(self, labels: tuple[str, ...], scores: Floats) -> Floats:
        """Return a model's scores over the shared labels."""
        own = LabelSet("own", labels)
        over = scores @ projection(own, self.asked, drop=_homeless(own, self.asked))
        place = [self.asked.index(name) for name in self.labels]
        return _scaled(over[:, place], empty=1 / len(place))


def _within(faces: LabelledFaces, asked: LabelSet) -> tuple[LabelledFaces, list[str]]:
    """Return the faces whose label has a place among the asked ones, and what is to be said about the others."""
    lost = _homeless(faces.labels, asked)
    if not lost or len(lost) == len(faces.labels):
        return faces, []
    kept = faces.relabelled(asked, drop={*lost, *_homeless(faces.vote_labels, asked)})
    return kept, [
        f"{len(faces) - len(kept)} faces labelled {', '.join(lost)} do not count: the labels asked for have none"
    ]


def _shared(asked: LabelSet, sets: Sequence[LabelSet]) -> tuple[tuple[str, ...], list[str]]:
    """Return the asked labels that every model can give, in their order, and what is to be said about the others."""
    kept, said = np.ones(len(asked), bool), []
    for own in sets:
        lost = _homeless(own, asked)
        given = projection(own, asked, drop=lost).sum(0) > 0
        absent = [name for name, there in zip(asked, given, strict=True) if not there]
        if absent:
            said.append(f"{own.name} has no {', '.join(absent)}: left out for all")
        if lost:
            said.append(f"{own.name} also names {', '.join(lost)}: its other scores were scaled to 1")
        kept &= given
    return tuple(name for name, there in zip(asked, kept, strict=True) if there), said


def _homeless(source: LabelSet, target: LabelSet) -> list[str]:
    """Return the labels of one set that have no place in another."""

    def fits(name: str) -> bool:
        try:
            projection(source, target, drop=[other for other in source if other != name])
        except UnknownLabelError:
            return False
        return True

    return [name for name in source if not fits(name)]


def _scaled(values: NDArray[Any], *, empty: float = 0.0) -> NDArray[Any]:
    total = values.sum(1, keepdims=True)
    shares: NDArray[Any] = np.divide(values, total, out=np.full_like(values, empty), where=total > 0)
    return shares


def _distinct(faces: LabelledFaces, split: str) -> tuple[LabelledFaces, int, int]:
    """Return a split without pictures that are pixel for pixel in another, each once, and how many went for either."""
    chosen, other = faces.of_split(split), faces[faces.split != split]
    elsewhere = np.isin(chosen.group, other.group)
    first = np.zeros(len(chosen), bool)
    first[np.unique(chosen.group, return_index=True)[1]] = True
    return chosen[first & ~elsewhere], int(elsewhere.sum()), int((~elsewhere & ~first).sum())


def _row(found: _Bench, entrant: Entrant, case: _Case, held: Mapping[str, Floats]) -> Row:
    name = entrant.name
    scores, first = held[name], next(iter(held.values()))
    named, n = scores.argmax(1), len(case.label)
    facts, weight = found.facts[name], found.weights[name]
    installed = None if weight.megabytes is None else weight.megabytes + entrant.file_bytes / 1e6

    def over(statistic: Callable[[NDArray[np.int64]], float]) -> Estimate:
        def of(rows: NDArray[np.intp]) -> float:
            return statistic(metrics.confusion_matrix(case.label[rows], named[rows], len(case.labels)))

        return Estimate(of(np.arange(n)), *metrics.bootstrap(of, n), n)

    return Row(
        name=name,
        kind=entrant.kind,
        version=facts.version,
        python=facts.python,
        labels=facts.labels,
        accuracy=metrics.accuracy(case.label, named),
        balanced_accuracy=over(metrics.balanced_accuracy),
        macro_f1=over(metrics.macro_f1),
        divergence=_divergence(case.target, scores),
        milliseconds={b: _timing(v) for b, v in found.times[name].items()},
        start_seconds=facts.seconds,
        peak_megabytes=found.peaks[name],
        installed_megabytes=installed,
        environment_megabytes=weight.environment,
        missing=weight.missing,
        against_first=None if scores is first else paired(first.argmax(1) == case.label, named == case.label),
    )


def _timing(rounds: Sequence[tuple[float, float]]) -> Timing:
    clock, processor = zip(*rounds, strict=True)
    return Timing(statistics.median(clock), min(clock), max(clock), statistics.median(processor))


def _divergence(target: NDArray[np.float32] | None, scores: Floats) -> float:
    if target is None:
        return float("nan")
    voted = target.sum(1) > 0
    return metrics.divergence(target[voted], scores[voted])


def _check(entrants: Sequence[Entrant], rounds: int, seconds: float) -> None:
    names = [e.name for e in entrants]
    twice = sorted({name for name in names if names.count(name) > 1})
    rules = (
        (bool(names), "there is no model to compare; name one or more"),
        (not twice, f"the model {', '.join(twice)} stands there twice; name each once"),
        (rounds >= 1, f"rounds is {rounds}; it must be 1 or more"),
        (seconds > 0, f"seconds is {seconds:g}; it must be more than 0"),
    )
    for fits, msg in rules:
        if not fits:
            raise OptionError(msg)


def _load() -> float:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # not on Windows
        return 0.0


def _busy(load: float, rounds: int) -> tuple[str, ...]:
    """Return a remark where more wanted to run than there are processors; one of the models is always running."""
    if load <= usable_cpus() + 0.5:
        return ()
    return (
        f"the machine was busy while it was timed ({load:.1f} wanted to run on {usable_cpus()} processors): trust the "
        f"processor's time, not the clock's of the {rounds} rounds",
    )


def _processor() -> str:
    """Return the name of the processor where the system tells it, and how many there are."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name} × {usable_cpus()}"
