"""What the service is told once, when it starts: where it listens, whom it trusts, how much it takes, what it keeps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from ..errors import OptionError
from ..pipeline.analyzer import Settings
from ..zoo.session import usable_cpus

__all__ = ["Limits", "ServeSettings", "is_loopback"]

_LOOPBACK = {"localhost", "::1", "[::1]"}
_MIB = 1024 * 1024


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach a service that listens at ``host``.

    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
    (True, False)
    """
    return host in _LOOPBACK or host.startswith("127.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much the service takes; every limit answers with an error that names it.

    Attributes
    ----------
    body_bytes
        Body of a request with pictures.
    film_bytes
        Body of a request with a film.
    pictures
        Pictures in one request.
    pixels
        Width times height of a picture.
    faces
        Faces that are read in one picture, the best detector scores first.
    film_pixels
        Width times height of a film's frame.
    film_frames, film_seconds
        Length of a film.
    seconds
        From the whole body to the answer of a request with pictures.
    job_seconds
        Work on one film.
    idle_seconds
        Silence within a body that is being sent.
    least_rate
        Bytes a second that a body has to come with, on the average after its first ``idle_seconds``.
    waiting
        Pictures that wait for their turn; past it: 429.
    jobs
        Films worked on at once.
    jobs_waiting
        Films that wait, of all callers; past it: 429.
    jobs_each
        Films that wait or are worked on, of one caller; past it: 429.
    streams
        Cameras at once; past it: 429.
    frame_bytes
        One frame of a camera.
    disk_bytes
        All films and results together; past it: 507.
    hand_over
        Seconds that the results of a film wait to be fetched when nothing is kept.
    """

    body_bytes: int = 32 * _MIB
    film_bytes: int = 2048 * _MIB
    pictures: int = 16
    pixels: int = 40_000_000
    faces: int = 200
    film_pixels: int = 8_900_000
    film_frames: int = 500_000
    film_seconds: float = 3 * 3600.0
    seconds: float = 30.0
    job_seconds: float = 6 * 3600.0
    idle_seconds: float = 10.0
    least_rate: int = 1024
    waiting: int = 64
    jobs: int = 1
    jobs_waiting: int = 50
    jobs_each: int = 5
    streams: int = 8
    frame_bytes: int = 2 * _MIB
    disk_bytes: int = 20 * 1024 * _MIB
    hand_over: float = 15 * 60.0

    def __post_init__(self) -> None:
        for each in fields(self):
            if getattr(self, each.name) <= 0:
                msg = f"limit {each.name} is {getattr(self, each.name)}, it must be above 0"
                raise OptionError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """Everything that the service is told; a frozen value, read once.

    Attributes
    ----------
    host, port
        Where it listens.
    workers
        Processes that answer requests.
    state
        Folder of the job queue, of films in work and of results; made when missing, readable by its owner only.
    token_file
        Who may ask; None: nobody is asked for a token, which is refused unless ``host`` is a loopback address.
    hosts
        Names by which the service may be called besides its own address and the loopback names.
    origin
        The address people use, as ``https://faces.example``; None: ``host`` and ``port``. The QR code shows it.
    tls
        ``None``, ``"self-signed"``, or the files of the certificate and its key.
    purpose
        What it is used for, a name of `purposes.PURPOSES`; None: whoever sets it up says so on the page.
    keep
        Seconds that films and results are kept after a job; 0: the film goes with the end of the job, its results
        ``hand_over`` seconds later, or when they are erased.
    fetch
        Fetch pictures from addresses that clients name.
    proxy
        A reverse proxy on this machine says who asks (``X-Forwarded-For``, ``X-Forwarded-Proto``).
    threads
        Pictures worked on at once in one process.
    analysis
        What is found and read, as `mien.Settings`.
    limits
        How much it takes.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    state: Path = field(default_factory=lambda: default_state(os.environ))
    token_file: Path | None = None
    hosts: tuple[str, ...] = ()
    origin: str | None = None
    tls: str | tuple[Path, Path] | None = None
    purpose: str | None = None
    keep: float = 0.0
    fetch: bool = False
    proxy: bool = False
    threads: int = field(default_factory=usable_cpus)
    analysis: Settings = field(default_factory=lambda: Settings(threads=1))
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        rules = (
            ("port", 0 <= self.port <= 65_535, "0 to 65535"),
            ("workers", 1 <= self.workers <= 64, "1 to 64"),
            ("keep", self.keep >= 0, "0 or more seconds"),
            ("threads", self.threads >= 1, "1 or more"),
        )
        for name, fits, need in rules:
            if not fits:
                msg = f"{name} is {getattr(self, name)!r}, it must be {need}"
                raise OptionError(msg)

    @property
    def address(self) -> str:
        """The address of the page."""
        if self.origin:
            return self.origin.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host and not self.host.startswith("[") else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


def default_state(environ: Mapping[str, str]) -> Path:
    """Return where the state lies unless told otherwise: ``MIEN_STATE``, else under the user's state folder (XDG)."""
    if named := environ.get("MIEN_STATE"):
        return Path(named)
    home = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "mien"
