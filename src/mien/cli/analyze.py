"""`mien analyze`: the main job."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TaskID
from rich.table import Table

from ..errors import OptionError, OutputError
from ..labels import LabelSet
from ..media.source import Kind, find
from ..pipeline.analyzer import Analyzer, Settings, analyzer
from ..pipeline.batch import Batch, Done, Outcome, Taker
from ..results.faces import Faces
from ..results.sink import Sink
from .console import INPUT_FAILED, INTERRUPTED, NOTHING, errors, meter, note, table_console
from .opening import is_run, open_model

__all__ = ["analyze", "report"]

_SHOWN = 60


class _Meter:
    """Progress of a run on Rich's bar."""

    def __init__(self, progress: Progress | None, task: TaskID, sources: int) -> None:
        self._progress, self._task, self._many = progress, task, sources > 1
        self._number, self._sources = 0, sources
        self._steps, self._since = 0, time.monotonic()

    def begin(self, source: str, frames: int | None) -> None:
        self._number += 1
        if not self._progress:
            return
        if frames == 1 and self._many:
            self._progress.update(self._task, description="pictures", total=self._sources, completed=self._number - 1)
            return
        self._progress.reset(self._task, description=_short(source), total=frames)
        self._steps, self._since = 0, time.monotonic()

    def step(self) -> None:
        self._steps += 1
        if self._progress:
            rate = self._steps / max(time.monotonic() - self._since, 1e-6)
            self._progress.update(self._task, advance=1, rate=f"{rate:.1f}")


class _Filter:
    """Passes on only the rows that name one of some labels."""

    def __init__(self, taker: Taker, only: frozenset[str]) -> None:
        self._taker, self._only = taker, only

    def take(self, faces: Faces) -> None:
        chosen = faces[[t in self._only for t in faces.top.tolist()]] if self._only else faces
        if len(chosen):
            self._taker.take(chosen)

    def close_source(self, source: str) -> None:
        self._taker.close_source(source)


class _File:
    """Rows into the file of ``--out``."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.rows = 0

    def take(self, faces: Faces) -> None:
        self._sink.append(faces)
        self.rows += len(faces)

    def close_source(self, source: str) -> None:
        self._sink.close_source(source)


class _Json:
    """Rows into one JSON document on stdout, as they come, so that a film's length costs no memory."""

    def __init__(self, terms: Mapping[str, object], *, rows: bool) -> None:
        self._rows, self._first = rows, True
        sys.stdout.write('{"settings": ' + json.dumps(terms) + ', "faces": [')

    def take(self, faces: Faces) -> None:
        for record in faces.records() if self._rows else []:
            sys.stdout.write(
                ("" if self._first else ",") + "\n" + json.dumps(record, ensure_ascii=False, allow_nan=False)
            )
            self._first = False

    def close_source(self, _source: str) -> None:
        sys.stdout.flush()

    def end(self, outcome: Outcome, out: Path | None) -> None:
        summary = {
            "sources": outcome.sources,
            "skipped": outcome.skipped,
            "frames": outcome.frames,
            "rows": outcome.rows,
            "faces": outcome.faces,
            "named": dict(outcome.named.most_common()),
            "reasons": dict(outcome.reasons.most_common()),
            "seconds": round(outcome.seconds, 3),
            "interrupted": outcome.interrupted,
            "out": str(out) if out else None,
            "annotated": [str(p) for p in outcome.annotated],
        }
        failures = [{"source": s, "error": str(e)} for s, e in outcome.failures]
        sys.stdout.write(
            f'\n], "summary": {json.dumps(summary)}, "failures": {json.dumps(failures, ensure_ascii=False)}}}\n'
        )
        sys.stdout.flush()


class _Rows:
    """The rows that the table on the terminal shows: all of pictures, a summary of films."""

    def __init__(self, kinds: dict[str, Kind]) -> None:
        self._kinds = kinds
        self.kept: list[Faces] = []
        self.films: dict[str, Counter[str]] = {}

    def take(self, faces: Faces) -> None:
        source = faces.sources[int(faces.source[0])]
        if self._kinds.get(source, Kind.PICTURE) is Kind.PICTURE:
            self.kept.append(faces)
            return
        film = self.films.setdefault(source, Counter())
        film["frames"] += 1
        film["frames with a face"] += bool(faces.found.any())
        film["faces"] += int(faces.found.sum())
        film.update(t for t in faces.top.tolist() if t)

    def close_source(self, _source: str) -> None:
        pass

    def show(self, labels: tuple[str, ...]) -> None:
        console = table_console()
        if self.kept:
            console.print(report(Faces.concat(self.kept)))
        for source, film in self.films.items():
            named = sum(film[label] for label in labels)
            shares = ", ".join(f"{w} {film[w] / named:.0%}" for w in sorted(labels, key=lambda w: -film[w]) if film[w])
            console.print(
                f"{_short(source)}: {film['frames']} frames, {film['frames with a face']} with a face, "
                f"{film['faces']} faces" + (f"; of {named} named: {shares}" if named else ""),
                markup=False,
                highlight=False,
            )


def report(faces: Faces, *, most: int = _SHOWN) -> Table:
    """Return the table that the terminal shows, a row a face."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head, right in (
        ("source", False),
        ("face", True),
        ("expression", False),
        ("score", True),
        ("second", False),
        ("score", True),
        ("box x1 y1 x2 y2", True),
        ("reason", False),
    ):
        table.add_column(head, justify="right" if right else "left", overflow="fold")
    scores = faces.ranked(2)[1]
    top, second, names, reasons = faces.top, faces.second, faces.source_names, faces.reason_words
    for i in range(min(len(faces), most)):
        box = " ".join(f"{v:.0f}" for v in faces.box[i]) if faces.found[i] else ""
        read = bool(top[i])
        table.add_row(
            _short(str(names[i])),
            str(faces.face[i]) if faces.found[i] else "–",
            str(top[i]) or "–",
            f"{scores[i, 0]:.2f}" if read else "",
            str(second[i]),
            f"{scores[i, 1]:.2f}" if read else "",
            box,
            reasons[i].replace("_", " ").replace("|", ", "),
        )
    if len(faces) > most:
        table.caption = f"and {len(faces) - most} more rows, which --out FILE holds"
    return table


def _short(name: str, most: int = 44) -> str:
    return name if len(name) <= most else "…" + name[1 - most :]


def _only(text: str | None, known: LabelSet) -> frozenset[str]:
    if not text:
        return frozenset()
    return frozenset(known.labels[known.index(word)] for word in text.split(","))


def _finish(outcome: Outcome) -> None:
    for source, error in outcome.failures:
        line = str(error)
        note(f"mien: {line}" if line.startswith(source) else f"mien: {source}: {line}")
    if outcome.interrupted:
        raise typer.Exit(INTERRUPTED)
    if outcome.failures:
        raise typer.Exit(INPUT_FAILED)
    if not outcome.faces and not outcome.skipped:
        raise typer.Exit(NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What one call of the command was asked for."""

    settings: Settings
    only: str | None
    out: Path | None
    layout: str
    annotate: Path | None
    cover: bool
    every: int
    seconds: float | None
    max_pixels: int
    resume: bool
    as_json: bool
    quiet: bool

    def sink(self, labels: LabelSet, only: frozenset[str]) -> Sink | None:
        """Open the file of ``--out``; rows of other settings do not belong into one file."""
        if self.out is None:
            return None
        terms = self.terms(labels) | {"every": self.every, "only": sorted(only)}
        return Sink(self.out, labels=labels, layout=self.layout, resume=self.resume, settings=terms)

    def terms(self, labels: LabelSet) -> dict[str, object]:
        """Return the settings with the label set that they led to."""
        return self.settings.as_dict() | {"labels": labels.name}


def _reader(settings: Settings) -> Analyzer:
    if is_run(settings.model):
        return Analyzer(settings, read=open_model(settings.model, threads=settings.threads))
    return analyzer(settings)


def _do(job: _Job, inputs: list[str]) -> Outcome:
    """Run a job and print what it gives; whatever happens, ``--json`` prints one whole document."""
    reader = _reader(job.settings)
    labels, only = reader.labels, _only(job.only, reader.labels)
    sources, failed = find(inputs)
    if job.seconds is not None and sources and all(s.kind in {Kind.PICTURE, Kind.FILM} for s in sources):
        msg = f"--seconds {job.seconds:g} stops cameras and streams, and there is none; leave it out"
        raise OptionError(msg)
    sink = job.sink(labels, only)
    shown = _Rows({s.name: s.kind for s in sources})
    document = _Json(job.terms(labels), rows=sink is None) if job.as_json else None
    file = _File(sink) if sink else None
    takers = [_Filter(t, only) for t in (file, document or shown) if t]
    done = {name: Done(p.frame, p.finished) for name, p in sink.done().items()} if sink else {}
    unit = "frames" if any(s.kind is not Kind.PICTURE for s in sources) else "pictures"
    with meter(shown=not (job.quiet or job.as_json), unit=unit) as (bar, task):
        batch = Batch(
            reader,
            takers=takers,
            listener=_Meter(bar, task, len(sources)),
            annotate=job.annotate,
            cover=job.cover,
            every=job.every,
            seconds=job.seconds,
            max_pixels=job.max_pixels,
            done=done,
        )
        batch.outcome.failures.extend(failed)
        try:
            outcome = batch.run(sources)
            if sink and not outcome.interrupted:
                sink.finish()
        except OutputError as error:
            outcome = batch.outcome
            outcome.failures.append((str(job.out or job.annotate), error))
        finally:
            if sink:
                sink.close()
    if document:
        document.end(outcome, job.out)
    elif not job.quiet:
        shown.show(labels.labels)
        _where(outcome, job, file)
    return outcome


def analyze(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Pictures, films, folders, globs, a camera's number, or rtsp:// and http(s):// addresses.",
            show_default=False,
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Write all rows: .csv, .jsonl or .parquet.")] = None,
    layout: Annotated[
        str, typer.Option(help="Layout of a .csv: default (a row a face) or film (a row a frame).")
    ] = "default",
    annotate: Annotated[Path | None, typer.Option(help="Write annotated pictures and films into this folder.")] = None,
    anonymize: Annotated[
        str | None, typer.Option(help="all: cover every face that was found in what --annotate writes.")
    ] = None,
    detector: Annotated[str, typer.Option(help="mtcnn, haar or haar-alt2.")] = "mtcnn",
    model: Annotated[
        str, typer.Option(help="A bundled expression model, an .onnx file with its card, or the folder of a run.")
    ] = "expression",
    labels: Annotated[
        str | None,
        typer.Option(
            help="A label set that the model can give; default its own. Bundled: eight, seven, six, five, three."
        ),
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Keep only rows that name one of these labels, comma-separated.")
    ] = None,
    min_face: Annotated[int, typer.Option(help="Smallest face to look for, pixels.")] = 20,
    width: Annotated[
        int | None, typer.Option(help="Look for faces with the longer side at most so many pixels; default 1280.")
    ] = None,
    every: Annotated[int, typer.Option(help="Read only each n-th frame of films.", min=1)] = 1,
    detect_every: Annotated[int, typer.Option(help="Detect in each k-th frame and follow the faces in between.")] = 1,
    track: Annotated[bool, typer.Option("--track", help="Give each face of a film one number over time.")] = False,
    vote: Annotated[int, typer.Option(help="Read each face in 45 (9, 5) windows and take their mean; 0: one.")] = 0,
    seconds: Annotated[float | None, typer.Option(help="Stop a camera or stream after so long.")] = None,
    min_score: Annotated[float, typer.Option(help="Name no label below this score.")] = 0.0,
    best_only: Annotated[
        bool, typer.Option("--best-only", help="Keep only the face with the best detector score.")
    ] = False,
    one_face: Annotated[
        bool, typer.Option("--one-face", help="Keep only pictures and frames with exactly one face.")
    ] = False,
    require_eyes: Annotated[
        bool, typer.Option("--require-eyes", help="Keep only faces in which the eye cascade sees an eye.")
    ] = False,
    read_all: Annotated[
        bool, typer.Option("--read-all", help="Read also faces that have a reason against it.")
    ] = False,
    max_megapixels: Annotated[float, typer.Option(help="Refuse larger pictures.")] = 64.0,
    threads: Annotated[int, typer.Option(help="Threads of the networks; 0: one a processor.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run of --out that was cut off.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout; with --out it holds no rows.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No table and no progress.")] = False,
) -> None:
    """Find every face, read its expression, and give a row with evidence for each.

    Exit code 0: done; 1: no face anywhere; 2: an input failed, the others were done.
    """
    with errors():
        settings = Settings(
            detector=detector,
            model=model,
            labels=labels,
            min_face=min_face,
            width=width,
            detect_every=detect_every,
            track=track,
            vote=vote,
            min_score=min_score,
            best_only=best_only,
            one_face=one_face,
            require_eyes=require_eyes,
            read_all=read_all,
            threads=threads,
        )
        if resume and out is None:
            msg = "--resume goes on with a file: name it with --out"
            raise OptionError(msg)
        if layout != "default" and out is None:
            msg = f"--layout {layout} is how a file is written: name it with --out"
            raise OptionError(msg)
        _check_cover(anonymize, annotate, best_only=best_only)
        if annotate:
            _folder(annotate)
        job = _Job(
            settings=settings,
            only=only,
            out=out,
            layout=layout,
            annotate=annotate,
            cover=anonymize is not None,
            every=every,
            seconds=seconds,
            max_pixels=int(max_megapixels * 1e6),
            resume=resume,
            as_json=as_json,
            quiet=quiet,
        )
        _finish(_do(job, inputs))


def _check_cover(anonymize: str | None, annotate: Path | None, *, best_only: bool) -> None:
    if anonymize is None:
        return
    if anonymize != "all":
        msg = f"--anonymize {anonymize}: here it is all; to leave some bare, mien film index, then mien film annotate"
        raise OptionError(msg)
    if annotate is None:
        msg = "--anonymize all covers faces in what --annotate writes: name a folder with it"
        raise OptionError(msg)
    if best_only:
        msg = "--anonymize all and --best-only: faces that are left out would not be covered; choose one"
        raise OptionError(msg)


def _where(outcome: Outcome, job: _Job, file: _File | None) -> None:
    if outcome.interrupted:
        note("mien: stopped" + (f"; {file.rows} whole rows are kept, --resume goes on" if file else ""))
    elif file and not any(isinstance(e, OutputError) for _, e in outcome.failures):
        note(f"wrote {file.rows} {'more ' if job.resume else ''}rows to {job.out}")
    if outcome.annotated:
        note(f"wrote {len(outcome.annotated)} annotated files to {outcome.annotated[0].parent}")


def _folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{path}: cannot make this folder ({error.strerror}); name another with --annotate"
        raise OutputError(msg) from error
