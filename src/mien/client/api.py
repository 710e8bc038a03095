"""`Client`: what the service does, as methods."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http.client import HTTPResponse
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, BinaryIO, Self, cast
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, DecodeError, ServiceError
from ..results.columns import Reason
from ..results.faces import Faces
from ..results.files import read_faces, replacing
from .body import film, picture, pictures
from .events import events
from .job import Job
from .wire import Wire, gone

__all__ = ["Client"]

Picture = str | os.PathLike[str] | bytes | NDArray[np.uint8]
"""The path or the bytes of a picture file, or (H, W, 3) uint8 RGB."""

_BYTES = 24 * 1024 * 1024
_PIECE = 256 * 1024
_TRIES = 3


class Client:
    """Asks one service. Safe to use from several threads; connections are kept open and used again.

    Parameters
    ----------
    address
        Where it listens, as ``http://127.0.0.1:8000`` or ``https://faces.example/mien``.
    token
        Who asks; None where the service asks for none.
    timeout
        Seconds of silence after which a request is given up.
    verify
        True: the certificate of an https address has to be of an authority that this system trusts. A path: it has to
        be that of this PEM file, which is how a self-signed one is trusted.
    patience
        Seconds that one call waits in all where the service is busy (429, 503 with ``Retry-After``), and that a job's
        events wait for a service that is restarted.

    Raises
    ------
    OptionError
        If the address, the token, the file or a number cannot be used.

    Notes
    -----
    Every method raises `ServiceError` if the service refuses, fails or does not answer. Calls that do no harm twice are
    tried again where the connection breaks; a film is sent once. Redirects are not followed and no proxy is used.

    Examples
    --------
    >>> with Client("http://127.0.0.1:8000") as service:  # doctest: +SKIP
    ...     print(service.analyze("party.jpg").top)
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        timeout: float = 30.0,
        verify: bool | str | os.PathLike[str] = True,
        patience: float = 60.0,
    ) -> None:
        self._wire = Wire(address, token=token, timeout=timeout, verify=verify, patience=patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._wire.address!r})"

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._wire.close()

    # Pictures

    def analyze(
        self,
        source: Picture | Sequence[Picture],
        *,
        labels: str | None = None,
        min_score: float | None = None,
        best_only: bool = False,
        at_once: int = 16,
    ) -> Faces:
        """Find and read all faces of a picture or of several, as `mien.analyze` does with the same bytes and settings.

        Parameters
        ----------
        source
            The path or the bytes of a picture file, an array (H, W, 3) uint8 RGB, which is sent as PNG, or a list of
            these. The names of the files are not sent.
        labels
            ``eight``, ``seven``, ``six``, ``five`` or ``three``; None: what the service reads without being asked.
        min_score
            Name no label when the best score is lower, in [0, 1].
        best_only
            Keep only the face with the best detector score of each picture.
        at_once
            Pictures in one request; the service takes 16 unless it was told otherwise.

        Returns
        -------
        Faces
            One row a face, or one with a reason for a picture without; pictures in the order given, every number to
            its last bit. Paths are named as given, other pictures ``picture 0``, ``picture 1`` and so on.

        Raises
        ------
        SourceError
            If a file cannot be read here, or is no picture that the service can read.
        ServiceError
            If the service refuses, fails or does not answer.

        Examples
        --------
        >>> with Client("http://127.0.0.1:8000") as service:  # doctest: +SKIP
        ...     faces = service.analyze(["a.jpg", "b.jpg"], labels="seven", best_only=True)
        """
        alone = isinstance(source, str | os.PathLike | bytes | bytearray | memoryview | np.ndarray)
        listed: list[Any] = [source] if alone else list(cast("Sequence[Any]", source))
        query = {"format": "jsonl", "labels": labels, "min_score": min_score, "best_only": best_only or None}
        tables = [self._read(names, files, query) for names, files in _groups(listed, at_once)]
        return Faces.concat(tables)

    def annotated(self, source: Picture, *, labels: str | None = None, min_score: float | None = None) -> bytes:
        """Return a picture with its faces and their scores drawn in, as a JPEG file.

        Parameters
        ----------
        source, labels, min_score
            As `analyze` takes them.

        Examples
        --------
        >>> with Client("http://127.0.0.1:8000") as service:  # doctest: +SKIP
        ...     Path("read.jpg").write_bytes(service.annotated("party.jpg"))
        """
        body = pictures([("0", picture(source))])
        query = {"format": "jpeg", "labels": labels, "min_score": min_score}
        return self._wire.data(
            "POST",
            "/v1/analyze",
            query=query,
            body=body,
            headers={"Accept": "image/jpeg, application/json"},
            again=True,
        )

    def _read(self, names: list[str], files: list[bytes], query: dict[str, Any]) -> Faces:
        sent = [(str(number), data) for number, data in enumerate(files)]
        try:
            # The service keeps nothing of a picture, so asking twice does no harm.
            answer = self._wire.data(
                "POST", "/v1/analyze", query=query, body=pictures(sent), headers={"Accept": "*/*"}, again=True
            )
        except ServiceError as error:
            if len(names) == 1 and error.status == 415:
                msg = f"{names[0]}: {error}"
                raise DecodeError(msg) from error
            raise
        faces = self._table(answer)
        try:
            called = [names[int(s)] for s in faces.sources] if len(names) > 1 else names[: len(faces.sources)]
        except (ValueError, IndexError) as error:
            msg = f"it tells of pictures that were not sent ({', '.join(faces.sources)})"
            raise self._wire.strange(msg) from error
        faces = replace(faces, sources=tuple(called))
        for name in faces[(faces.reason & int(Reason.UNREADABLE)) != 0].source_names.tolist():
            msg = f"{name}: the service cannot read it; is it a picture, and not too large?"
            raise DecodeError(msg)
        return faces

    def _table(self, lines: bytes) -> Faces:
        with TemporaryDirectory(prefix="mien-") as folder:
            path = Path(folder) / "faces.jsonl"
            path.write_bytes(lines)
            try:
                return read_faces(path)
            except DataError as error:
                msg = f"the answer is no table of faces ({error})"
                raise self._wire.strange(msg) from error

    # Films

    def submit(
        self,
        film_source: str | os.PathLike[str] | bytes | BinaryIO,
        *,
        name: str | None = None,
        every: int | None = None,
        fps: float | None = None,
        labels: str | None = None,
        annotate: bool | None = None,
    ) -> Job:
        """Send a film to be worked on. It is read while it is sent, so memory does not grow with it.

        Parameters
        ----------
        film_source
            A path, bytes, or a file that is open for reading bytes and can be wound back.
        name
            What the job is called; None: the last part of the path.
        every
            Read only each n-th frame.
        fps
            Read at most so many frames a second.
        labels
            As in `analyze`.
        annotate
            Also make the film with the faces drawn in; None: as the service does without being asked.

        Examples
        --------
        >>> with Client("http://127.0.0.1:8000") as service:  # doctest: +SKIP
        ...     job = service.wait(service.submit("film.mp4"))
        ...     faces = service.faces(job)
        """
        query = {"every": every, "fps": fps, "labels": labels, "annotate": annotate}
        return self._job(self._wire.json("POST", "/v1/films", query=query, body=film(film_source, name)))

    def job(self, job: Job | str) -> Job:
        """Return what the service tells of a job now; by itself or by its id."""
        return self._job(self._wire.json("GET", _path(job)))

    def jobs(self) -> list[Job]:
        """Return the jobs of whoever asks, as the service orders them."""
        told = self._wire.json("GET", "/v1/jobs")
        listed = told.get("jobs") if isinstance(told, dict) else told
        if not isinstance(listed, list):
            msg = "the jobs are no list"
            raise self._wire.strange(msg)
        return [self._job(one) for one in listed]

    def events(self, job: Job | str) -> Iterator[Job]:
        """Give a job each time the service tells of it, last when it is over; go on where the connection breaks.

        Examples
        --------
        >>> with Client("http://127.0.0.1:8000") as service:  # doctest: +SKIP
        ...     for job in service.events("the id of a job"):
        ...         print(job.state, job.progress.fraction)
        """
        return events(self._wire, f"{_path(job)}/events", self._wire.patience)

    def wait(self, job: Job | str, *, tell: Callable[[Job], object] | None = None) -> Job:
        """Wait until a job is over and return it; its ``state`` says whether it is done, failed or was cancelled.

        Parameters
        ----------
        job
            Itself or its id.
        tell
            Called with the job each time the service tells of it.
        """
        for told in self.events(job):
            last = told
            if tell is not None:
                tell(told)
        return last

    def results(self, job: Job | str, name: str, out: str | os.PathLike[str] | None = None) -> Path:
        """Fetch one file that came of a job, piece by piece, into a file; it has its name only when it is whole.

        Parameters
        ----------
        job
            Itself or its id.
        name
            ``faces.csv``, ``faces.jsonl``, ``faces.parquet``, ``frames.parquet``, ``tracks.parquet``,
            ``timeline.json`` or ``annotated.mp4``.
        out
            The file, or a folder for it; None: ``name`` in the current folder.

        Raises
        ------
        OutputError
            If the file cannot be written.
        ServiceError
            If the job is not done, or there is no such file.
        """
        path = Path(out if out is not None else ".")
        path = path / Path(name).name if path.is_dir() else path
        with replacing(path) as temporary, temporary.open("wb") as file:
            self._fetch(f"{_path(job)}/results/{quote(name, safe='')}", file)
        return path

    def faces(self, job: Job | str) -> Faces:
        """Return the faces of a film that was worked on, one row a face, as `mien.analyze` gives them."""
        with TemporaryDirectory(prefix="mien-") as folder:
            path = self.results(job, "faces.jsonl", folder)
            try:
                return read_faces(path)
            except DataError as error:
                msg = f"the result is no table of faces ({error})"
                raise self._wire.strange(msg) from error

    def delete(self, job: Job | str) -> None:
        """Delete a job with its film and its results; one that runs is cancelled."""
        self._wire.data("DELETE", _path(job))

    def _job(self, told: Any) -> Job:
        try:
            return Job.read(told)
        except (ValueError, KeyError, TypeError) as error:
            msg = f"it should tell of a job ({error!r})"
            raise self._wire.strange(msg) from error

    def _fetch(self, path: str, file: BinaryIO) -> None:
        """Write a body to a file; where the connection breaks, go on behind what is there."""
        for turn in range(_TRIES):
            start = file.tell()
            headers = {"Accept": "*/*"} | ({"Range": f"bytes={start}-"} if start else {})
            with self._wire.open("GET", path, headers=headers) as answer:
                if start and answer.status != 206:
                    file.seek(0)
                    file.truncate()
                try:
                    for piece in _pieces(answer):
                        file.write(piece)
                except ServiceError:
                    if turn == _TRIES - 1:
                        raise
                else:
                    return

    # The service itself

    def models(self) -> dict[str, Any]:
        """Return which models the service uses, with their cards, as it tells of them."""
        return self._told("/v1/models")

    def health(self) -> dict[str, Any]:
        """Return ``{"status": "ok"}`` from a service whose process answers."""
        return self._told("/healthz")

    def _told(self, path: str) -> dict[str, Any]:
        told = self._wire.json("GET", path)
        if not isinstance(told, dict):
            msg = f"{path} is no object"
            raise self._wire.strange(msg)
        return told


def _path(job: Job | str) -> str:
    return f"/v1/jobs/{quote(job.id if isinstance(job, Job) else job, safe='')}"


def _pieces(answer: HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            piece = answer.read(_PIECE)
        except gone as error:
            msg = f"the connection broke off ({error!r})"
            raise ServiceError(msg, code="unreachable") from error
        if not piece:
            break
        yield piece
    if answer.length:  # bytes that were promised
        msg = f"the connection broke off {answer.length} bytes before the end"
        raise ServiceError(msg, code="unreachable")


def _groups(sources: Sequence[Any], at_once: int) -> Iterator[tuple[list[str], list[bytes]]]:
    """Give names and files of the pictures for one request each."""
    names: list[str] = []
    files: list[bytes] = []
    for number, source in enumerate(sources):
        data = picture(source)
        if files and (len(files) == at_once or sum(map(len, files)) + len(data) > _BYTES):
            yield names, files
            names, files = [], []
        names.append(str(source) if isinstance(source, str | os.PathLike) else f"picture {number}")
        files.append(data)
    if files:
        yield names, files
