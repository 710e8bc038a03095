"""Making the index of a film: decoded once, written in parts, so that a run that was cut off goes on where it was."""

from __future__ import annotations

import hashlib
import os
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError, SourceError
from ..geometry import area
from ..image import grey
from ..labels import LabelSet
from ..media.stills import DEFAULT_MAX_PIXELS
from ..media.video import Film, Frame
from ..models.align import yaw
from ..models.base import Boxes
from ..models.quality import sharpness
from ..pipeline.analyzer import Analyzer, Look, Settings
from ..pipeline.follow import Followed, Glance
from ..pipeline.stream import ahead
from ..results.columns import Reason
from ..results.faces import Faces
from ..results.table import needed_pyarrow
from ..zoo.session import usable_cpus
from .index import Index, fingerprint
from .parts import Parts, Point
from .tables import FACE_COLUMNS, Frames

__all__ = ["SETTINGS", "Built", "Listener", "Sampling", "index_film"]

SETTINGS = Settings(track=True, detect_every=5)
"""What an index is made with unless told otherwise: a search in every fifth frame, faces followed in between."""

_SEGMENT = 250
"""Frames of a part: what a crash can cost."""

_DECODERS = 4
"""Threads of the decoder, the same on every machine: what it makes of a damaged stretch depends on them."""

_FACES, _FRAMES = 32, 64
"""A call of the network reads the faces of so many frames, or so many faces, whichever comes first."""


class Listener(Protocol):
    """Hears how far the index is."""

    def begin(self, total: int | None, done: int) -> None:
        """Hear that it begins: ``total`` frames as far as the container tells, ``done`` by an earlier run."""
        ...

    def step(self, time: float) -> None:
        """Hear that a frame is done, with its time in seconds."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Which frames of a film are read.

    Attributes
    ----------
    every
        Each n-th frame.
    fps
        So many frames a second at most, chosen by their times; None: by ``every`` alone.
    max_pixels
        Refuse a film with larger frames.
    """

    every: int = 1
    fps: float | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS

    def __post_init__(self) -> None:
        if self.every < 1:
            msg = f"every is {self.every}, it must be 1 or more"
            raise OptionError(msg)
        if self.fps is not None and not 0 < self.fps <= 1000:
            msg = f"fps is {self.fps}, it must be above 0 and at most 1000"
            raise OptionError(msg)
        if self.fps is not None and self.every != 1:
            msg = f"every is {self.every} and fps is {self.fps:g}; choose one of them"
            raise OptionError(msg)


@dataclass(frozen=True, slots=True)
class Built:
    """What came of it.

    Attributes
    ----------
    index
        The finished index.
    frames
        Frames read in this run; 0 where the index was there already.
    resumed
        Frames that an earlier run had read.
    film_seconds
        How much of the film this run covered, by its time stamps.
    seconds
        How long this run took.
    new
        The index was not there before.
    """

    index: Index
    frames: int
    resumed: int
    film_seconds: float
    seconds: float
    new: bool = True

    @property
    def realtime(self) -> float:
        """Seconds of film a second of work; NaN where nothing was done."""
        return self.film_seconds / self.seconds if self.frames and self.seconds > 0 else float("nan")


def index_film(
    film: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    analyzer: Analyzer | None = None,
    settings: Settings = SETTINGS,
    sampling: Sampling | None = None,
    restart: bool = False,
    listener: Listener | None = None,
    segment: int = _SEGMENT,
) -> Built:
    """Index a film: find, follow and read every face, once.

    The same film, settings and versions give the same bytes, also when the run was cut off and gone on with, by the
    same call. Memory does not grow with the length of the film.

    Parameters
    ----------
    film
        The film.
    out
        The folder of the index; None: the film's own name with the ending ``.mien``, beside it.
    analyzer
        What finds, follows and reads faces, instead of one made by ``settings``; its own settings count then.
    settings
        As `pipeline.analyzer.Settings`; ``threads`` says how many frames are worked on side by side, with an analyzer
        too.
    sampling
        Which frames are read; default all.
    restart
        Throw away what is in ``out`` and begin anew.
    listener
        Hears of progress.
    segment
        Frames of a part on disk: what a crash can cost.

    Raises
    ------
    SourceError
        If the film is missing, cannot be read, or has no frames.
    OptionError
        If the analyzer does not track.
    ResumeError
        If ``out`` holds an index, finished or not, of another film or other settings.
    OutputError
        If it cannot be written; what was done is kept.
    MissingExtraError
        If pyarrow is not installed.
    """
    needed_pyarrow("film")
    path, chosen = _file(film), sampling or Sampling()
    folder = Path(out) if out is not None else path.with_suffix(".mien")
    begun = monotonic()
    used = replace(settings, track=True, threads=1)
    reader = analyzer or Analyzer(used)
    if not reader.settings.track:
        msg = "an index needs tracks and this analyzer gives none; make it with Settings(track=True)"
        raise OptionError(msg)
    with ExitStack() as opened:
        source = _open(path, chosen)
        opened.callback(source.close)
        run = _terms(path, reader, chosen, segment)
        parts = opened.enter_context(Parts(folder, run, labels=reader.labels, restart=restart))
        if parts.index is not None:
            return Built(parts.index, 0, len(parts.index.frames()), 0.0, monotonic() - begun, new=False)
        hashing = opened.enter_context(ThreadPoolExecutor(1, thread_name_prefix="mien-hash"))
        digest = hashing.submit(_sha256, path)
        resumed = parts.point.ordinal
        if listener:
            listener.begin(_expected(source, chosen), resumed)
        if not parts.point.finished:
            if resumed:
                source.close()
                source = opened.enter_context(_open(path, chosen, parts.point))
            workers = settings.threads or usable_cpus()
            _Making(reader, path.name, parts, segment=segment, workers=workers, listener=listener).run(source)
        index = parts.finish(_film(path, folder, source, digest.result()))
    times = index.frames().time
    covered = times[resumed:]
    seconds = float(np.nanmax(covered) - np.nanmin(covered)) + index.frames().step if np.isfinite(covered).any() else 0
    return Built(index, len(covered), resumed, float(seconds), monotonic() - begun)


def _file(film: str | os.PathLike[str]) -> Path:
    # A Path has already made one slash of two.
    if re.match(r"[a-z]{3,}:/", os.fspath(film), re.IGNORECASE):
        msg = f"{os.fspath(film)}: an address, and only a film in a file can be indexed; record it first"
        raise SourceError(msg)
    return Path(film)


def _open(path: Path, sampling: Sampling, point: Point | None = None) -> Film:
    start, landmark = (point.frame + 1, point.landmark) if point else (0, None)
    return Film(
        path,
        threads=_DECODERS,
        every=sampling.every,
        fps=sampling.fps,
        start=start,
        landmark=landmark,
        max_pixels=sampling.max_pixels,
    )


def _expected(film: Film, sampling: Sampling) -> int | None:
    if sampling.fps and film.duration:
        return round(film.duration * min(sampling.fps, film.fps or sampling.fps))
    return -(-film.frames // sampling.every) if film.frames else None


def _terms(path: Path, reader: Analyzer, sampling: Sampling, segment: int) -> dict[str, Any]:
    """Return all that decides what the index holds; an unfinished one goes on only under the same."""
    said = reader.settings.as_dict()
    del said["threads"]  # results do not depend on it
    return {
        "input": {"name": path.name, "bytes": path.stat().st_size, "fingerprint": fingerprint(path)},
        "settings": said
        | {"every": sampling.every, "fps": sampling.fps, "max_pixels": sampling.max_pixels, "segment": segment},
        "labels": {"name": reader.labels.name, "labels": list(reader.labels)},
        "models": reader.models(),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    packages = ("mien", "av", "numpy", "onnxruntime", "opencv-python-headless", "pyarrow")
    return {name: _version(name) for name in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from its sources, or another build of OpenCV
        return "unknown"


def _film(path: Path, folder: Path, film: Film, digest: str) -> dict[str, Any]:
    return {
        "name": path.name,
        "place": os.path.relpath(path.resolve(), folder.resolve()),
        "bytes": path.stat().st_size,
        "sha256": digest,
        "fingerprint": fingerprint(path),
        "fps": film.fps,
    } | film.facts()


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror})"
        raise SourceError(msg) from error


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A frame whose search is under way; ``glanced`` is set at the last frame of a part."""

    frame: Frame
    glance: Glance
    found: Future[Boxes] | None
    glanced: Mapping[str, Any] | None
    ordinal: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """A frame with its faces before they are read; the picture is gone."""

    frame: Frame
    glance: Glance
    followed: Followed
    look: Look
    ordinal: int


_Rows = tuple[Faces, dict[str, NDArray[Any]], Frames]


class _Making:
    """One run: a thread decodes, a pool searches and reads, this thread follows, another writes.

    What is computed depends on the frames alone: searches know nothing of each other, and no call of the network
    reaches over the end of a part.
    """

    def __init__(
        self, reader: Analyzer, source: str, parts: Parts, *, segment: int, workers: int, listener: Listener | None
    ) -> None:
        self._reader, self._source, self._parts = reader, source, parts
        self._segment, self._workers, self._listener = segment, workers, listener
        self._follower = reader.follower()
        if parts.point.ordinal:
            self._follower.restore(parts.point.glanced, parts.point.taken)
        self._point = parts.point
        self._chunk: list[_Seen] = []
        self._reading: list[Future[_Rows]] = []
        self._writing: deque[Future[None]] = deque()

    def run(self, film: Film) -> None:
        """Read the film to its end; Ctrl-C and errors leave the parts that are whole."""
        self._film = film
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="mien-work")
        self._pen = ThreadPoolExecutor(1, thread_name_prefix="mien-write")
        try:
            with closing(ahead(iter(film), depth=4)) as frames:
                for waiting in self._searched(frames):
                    self._take(waiting)
            self._close_part(self._follower.glanced(), finished=True)
            while self._writing:
                self._writing.popleft().result()
        finally:
            self._pool.shutdown(cancel_futures=True)
            self._pen.shutdown(cancel_futures=True)

    def _searched(self, frames: Iterator[Frame]) -> Iterator[_Waiting]:
        """Give the frames in order, the searches of the next ones under way."""
        held: deque[_Waiting] = deque()
        depth = min(self._workers * self._reader.settings.detect_every + 2, _FRAMES)
        for ordinal, frame in enumerate(frames, self._point.ordinal):
            glance = self._follower.glance(frame)
            found = (
                self._pool.submit(self._reader.find, frame.picture)
                if glance.search and frame.picture is not None
                else None
            )
            last = (ordinal + 1) % self._segment == 0
            held.append(_Waiting(frame, glance, found, self._follower.glanced() if last else None, ordinal))
            if len(held) > depth:
                yield held.popleft()
        while held:
            yield held.popleft()

    def _take(self, waiting: _Waiting) -> None:
        frame, found = waiting.frame, waiting.found.result() if waiting.found else None
        followed = self._reader.kept(self._follower.take(frame, waiting.glance, found))
        look = self._reader.look(frame, followed.boxes)
        self._chunk.append(_Seen(replace(frame, picture=None), waiting.glance, followed, look, waiting.ordinal))
        if sum(len(s.look.boxes) for s in self._chunk) >= _FACES or len(self._chunk) >= _FRAMES:
            self._submit()
        if self._listener:
            self._listener.step(frame.time)
        self._point = replace(self._point, ordinal=waiting.ordinal + 1, frame=frame.index)
        if waiting.glanced is not None:
            self._close_part(waiting.glanced)

    def _submit(self) -> None:
        if self._chunk:
            self._reading.append(self._pool.submit(_read, self._reader, self._source, self._chunk))
            self._chunk = []

    def _close_part(self, glanced: Mapping[str, Any], *, finished: bool = False) -> None:
        """Send a part off to be written; at most two wait, so that a slow disk slows the run and fills no memory."""
        self._submit()
        self._point = replace(
            self._point,
            landmark=self._film.landmark(self._point.frame) if self._point.frame >= 0 else None,
            part=self._point.part + 1,
            glanced=glanced,
            taken=self._follower.taken(),
            finished=finished,
        )
        self._writing.append(self._pen.submit(_write, self._parts, self._reading, self._point, self._reader.labels))
        self._reading = []
        while len(self._writing) > 2:
            self._writing.popleft().result()


def _read(reader: Analyzer, source: str, seen: Sequence[_Seen]) -> _Rows:
    """Read the faces of some frames in one call of the network, and return their rows."""
    looks = [s.look for s in seen]
    tables = [
        reader.marked(reader.table(s.frame, s.look, scores, source), s.followed)
        for s, scores in zip(seen, reader.scores(looks), strict=True)
    ]
    count = np.array([len(k.boxes) for k in looks], np.int16)
    each = np.repeat(np.arange(len(seen)), np.maximum(count, 1))
    shot = np.array([s.glance.shot for s in seen], np.int32)
    ordinal = np.array([s.ordinal for s in seen], np.int64)
    faces = Faces.concat(tables)
    frames = Frames.build(
        len(seen),
        ordinal=ordinal,
        frame=[s.frame.index for s in seen],
        time=[s.frame.time for s in seen],
        shot=shot,
        change=[s.glance.change for s in seen],
        faces=count,
        detected=[s.glance.search for s in seen],
        reason=np.array([_reason(s.look) for s in seen], np.str_),
        error=np.array([s.frame.error for s in seen], np.str_),
    )
    details = _measures(faces, looks) | {"ordinal": ordinal[each], "shot": shot[each], "faces": count[each]}
    return faces, details, frames


def _reason(look: Look) -> str:
    if len(look.boxes):
        return ""
    return (Reason.NO_FACE if look.readable else Reason.UNREADABLE).words


def _measures(faces: Faces, looks: Sequence[Look]) -> dict[str, NDArray[Any]]:
    """Return what can be measured of each face, NaN in the rows of frames without one."""
    found = faces.found
    crops = np.concatenate([k.crops for k in looks])
    out = {name: np.full(len(faces), np.nan, np.float32) for name in ("side", "yaw", "sharpness", "brightness")}
    out["side"][found] = np.sqrt(area(faces.box[found]))
    out["yaw"][found] = yaw(faces.points[found])
    out["sharpness"][found] = sharpness(crops)
    out["brightness"][found] = grey(crops).mean((1, 2)) if len(crops) else 0
    return out


def _write(parts: Parts, reading: Sequence[Future[_Rows]], point: Point, labels: LabelSet) -> None:
    rows = [r.result() for r in reading]
    faces = Faces.concat([r[0] for r in rows]) if rows else Faces.empty(labels=labels)
    details = {
        c.name: np.concatenate([r[1][c.name] for r in rows]) if rows else np.empty(0, c.dtype) for c in FACE_COLUMNS
    }
    frames = Frames.concat([r[2] for r in rows])
    parts.write(faces, details, frames, point)
