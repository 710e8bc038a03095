"""A file of faces that grows while a run goes on, outlives a crash, and can be continued."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ..errors import ResumeError, ShapeError
from ..labels import LabelSet
from .columns import flat
from .faces import Faces
from .files import jsonl_parts, line_form, replacing, write_parquet, writing
from .table import needed_pyarrow

__all__ = ["Progress", "Sink"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a source is: its last whole frame, −1 for none, and whether all of it was written."""

    frame: int = -1
    finished: bool = False


class _Growing:
    """A file that grows by whole pieces: a piece that fails leaves nothing behind."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        # Unbuffered, since a buffer would write what failed once more when it is closed.
        self._file: FileIO = path.open("r+b" if size else "w+b", buffering=0)
        self.size = size
        self.cut(size)

    def cut(self, size: int) -> None:
        self._file.truncate(size)
        self._file.seek(size)
        self.size = size

    def add(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            rest = rest[self._file.write(rest) :]
        self.size += len(piece)

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class Sink:
    """A file of faces that grows frame by frame, outlives a crash, and can be continued.

    Until `finish`, rows go to ``NAME.part.csv`` (``.part.jsonl`` for JSON Lines and Parquet), which `read_faces` reads,
    and ``NAME.progress`` says how many bytes of it are whole frames. `finish` gives the file its name and deletes the
    other two, so a file under its own name is always complete. A run that ends otherwise, even by ``kill -9``, leaves
    both, and ``resume=True`` goes on after the last whole frame: what was written later is cut off, and rows of frames
    that stand are not written again.

    Parameters
    ----------
    path
        Ends in ``.csv``, ``.jsonl`` or ``.parquet``.
    labels
        The label set of all tables that will come.
    layout
        As in `write_faces`.
    resume
        Go on with the unfinished run of this file, if there is one. Otherwise its rows are thrown away.
    settings
        What else must be the same for rows to belong together; anything that JSON can hold.

    Raises
    ------
    OptionError
        If the ending or the layout does not exist, or a label has the name of a column.
    OutputError
        If the file cannot be written; also from the other methods.
    ResumeError
        If the unfinished run had other labels, layout or settings.
    MissingExtraError
        If Parquet is asked for and pyarrow is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from mien.labels import EIGHT
    >>> from mien.results import Reason
    >>> from mien.results.files import read_faces
    >>> path = Path(tempfile.mkdtemp()) / "faces.csv"
    >>> with Sink(path, labels=EIGHT) as sink:
    ...     sink.append(Faces.missing("wall.jpg", Reason.NO_FACE))
    ...     sink.close_source("wall.jpg")
    ...     sink.finish()
    >>> len(read_faces(path))
    1
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        labels: LabelSet,
        layout: str = "default",
        resume: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self._labels = labels
        self._text = line_form(self.path, layout)
        self._parquet = self.path.suffix.lower() == ".parquet"
        if self._parquet:
            needed_pyarrow()
        head = self._text.encode(self._text.head(labels)) if flat(labels.labels) else b""
        run = {**(settings or {}), "layout": layout, "label names": list(labels.labels)}
        self._done: dict[str, Progress] = {}
        with writing(self.path):
            if self.path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "is a folder")
            rows, log = self._replay(json.loads(json.dumps(run, default=str))) if resume else (0, 0)
            if not log:
                # The old log must not speak of the new rows, should the process end between the two.
                self.progress.unlink(missing_ok=True)
            with ExitStack() as opened:
                self._rows = opened.enter_context(closing(_Growing(self.part, rows)))
                self._log = opened.enter_context(closing(_Growing(self.progress, log)))
                if not log:
                    self._rows.add(head)
                    self._note({"run": run, "bytes": self._rows.size})
                opened.pop_all()
        self._before = {name: p.frame for name, p in self._done.items()}

    @property
    def part(self) -> Path:
        """Where the rows are until `finish`."""
        return self.path.with_name(f"{self.path.name}.part{self._text.ending}")

    @property
    def progress(self) -> Path:
        """Where it says how far the run is, until `finish`."""
        return self.path.with_name(f"{self.path.name}.progress")

    def done(self) -> dict[str, Progress]:
        """Return how far each source is, by its name."""
        return dict(self._done)

    def append(self, faces: Faces) -> None:
        """Add the rows of one or more whole frames; they stand when this returns, or not at all.

        Frames of one source come in order, and all rows of a frame come in one call. Rows of frames that an earlier
        run wrote are passed over.

        Raises
        ------
        ShapeError
            If the table has another label set.
        """
        if faces.labels.labels != self._labels.labels:
            raise ShapeError("labels", ", ".join(self._labels.labels), ", ".join(faces.labels.labels))
        if self._before:
            last = np.array([self._before.get(name, -1) for name in faces.sources], np.int64)
            faces = faces[faces.frame > last[faces.source]]
        frames = dict(zip(faces.source_names.tolist(), faces.frame.tolist(), strict=True))
        if not frames:
            return
        sizes = self._rows.size, self._log.size
        with writing(self.path):
            try:
                self._rows.add(self._text.encode(self._text.rows(faces)))
                self._note({"bytes": self._rows.size, "frames": frames})
            except BaseException:
                self._rows.cut(sizes[0])
                self._log.cut(sizes[1])
                raise
        self._done |= {name: Progress(frame) for name, frame in frames.items()}

    def close_source(self, source: str) -> None:
        """Note that all rows of a source were added; this stands even if the power fails."""
        with writing(self.path):
            self._rows.sync()
            self._note({"source": source, "finished": True})
            self._log.sync()
        self._done[source] = Progress(self._done.get(source, Progress()).frame, finished=True)

    def finish(self) -> None:
        """Give the file its name and delete what an unfinished run leaves."""
        self.close()
        with replacing(self.path) as temporary:
            if self._parquet:
                write_parquet(temporary, jsonl_parts(self.part, self._labels), self._labels)
            else:
                shutil.copyfile(self.part, temporary)
        with writing(self.path):
            self.progress.unlink()
            self.part.unlink()

    def close(self) -> None:
        """Close the files; without `finish` the run can be continued."""
        self._rows.close()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _note(self, entry: Mapping[str, Any]) -> None:
        self._log.add(json.dumps(entry, default=str).encode() + b"\n")

    def _replay(self, run: Mapping[str, Any]) -> tuple[int, int]:
        """Take over what an unfinished run left; return how many bytes of rows and of the log stand.

        A line of the log counts if it is whole and the rows that it speaks of are there; the first that does not
        ends the log.
        """
        if not (self.part.exists() and self.progress.exists()):
            return 0, 0
        there = self.part.stat().st_size
        rows = log = 0
        with self.progress.open("rb") as lines:
            for line in lines:
                entry = _entry(line)
                if entry is None or entry.get("bytes", 0) > there:
                    break
                if not log:
                    self._agree(entry.get("run", {}), run)
                rows, log = entry.get("bytes", rows), log + len(line)
                self._done |= {name: Progress(frame) for name, frame in entry.get("frames", {}).items()}
                if "source" in entry:
                    frame = self._done.get(entry["source"], Progress()).frame
                    self._done[entry["source"]] = Progress(frame, finished=True)
        return rows, log

    def _agree(self, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        other = [key for key in {**then, **now} if then.get(key) != now.get(key)]
        if other:
            changes = ", ".join(f"{key} was {then.get(key)!r} and is now {now.get(key)!r}" for key in other)
            msg = f"{self.path}: the unfinished run is another: {changes}; use the same, or start over without resuming"
            raise ResumeError(msg)


def _entry(line: bytes) -> dict[str, Any] | None:
    """Return a line of the log, or ``None`` if it is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
