"""Start the service: check what it was told, open its state and its port, answer, end in order."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError, OptionError, OutputError
from .settings import ServeSettings

if TYPE_CHECKING:
    from ..pipeline.analyzer import Analyzer

__all__ = ["INTERRUPTED", "Started", "bind", "held", "needs_extra", "run", "running"]

INTERRUPTED = 130
"""What a process gives back that Ctrl-C ended."""

_PACKAGES = ("fastapi", "uvicorn", "websockets", "python_multipart", "sqlalchemy", "segno", "prometheus_client")
_LOCK = "lock"
_PATIENCE = 2.0
"""Seconds that a service which is just ending is given to let go of its state."""


@dataclass(frozen=True, slots=True)
class Started:
    """A service that answers now.

    Attributes
    ----------
    settings
        With the port that it has.
    address
        Where people find it: another machine's way to it where it listens on all addresses.
    purpose
        What is declared; None: nothing yet.
    tokens
        How many there are; None: nobody is asked for one.
    fingerprint
        SHA-256 of the certificate; None: no TLS.
    """

    settings: ServeSettings
    address: str
    purpose: str | None
    tokens: int | None
    fingerprint: str | None


def needs_extra() -> None:
    """Make sure that what the service needs is installed.

    Raises
    ------
    MissingExtraError
        If it is not; the message says what to install.
    """
    for package in _PACKAGES:
        if find_spec(package) is None:
            raise MissingExtraError(package.replace("_", "-"), "serve")


@contextmanager
def held(state: Path) -> Iterator[None]:
    """Make the folder of the state, for its owner only, and keep other services out of it.

    Raises
    ------
    OutputError
        If it cannot be made or written.
    OptionError
        If another service has it.
    """
    from . import folders

    lock = state / _LOCK
    try:
        folders.made(state).chmod(0o700)
        lock.touch(mode=0o600)
    except OSError as error:
        msg = f"the state cannot be kept in {state} ({error.strerror}); choose another folder with --state"
        raise OutputError(msg) from error
    hold = folders.hold(lock, seconds=_PATIENCE)
    if hold is None:
        msg = f"another service keeps its state in {state}; stop it, or choose another folder with --state"
        raise OptionError(msg)
    try:
        yield
    finally:
        hold.close()


def run(settings: ServeSettings, *, log: str = "text", announce: Callable[[Started], None] | None = None) -> int:
    """Run the service until Ctrl-C or SIGTERM: the page, the API and the work on films.

    Parameters
    ----------
    settings
        What it is told.
    log
        ``text`` or ``json``: the form of the log on stderr.
    announce
        Called once, when requests are answered.

    Returns
    -------
    int
        0 after SIGTERM, 130 after Ctrl-C.

    Raises
    ------
    MissingExtraError
        If the extra ``serve`` is not installed.
    OptionError
        If the purpose is refused, tokens are missing or cannot be read, the port or the state is in use, or a file of
        TLS cannot be used.
    OutputError
        If the state cannot be written.
    ModelError
        If the models cannot be loaded.
    """
    needs_extra()
    from . import tls
    from .logs import configuration
    from .policy import Policy
    from .tokens import Keyring, check_exposure

    check_exposure(settings)
    keys = Keyring.load(settings.token_file)
    Policy(settings)
    with held(settings.state):
        files = tls.certificate_files(settings)
        taken = bind(settings.host, settings.port)
        chosen = replace(settings, port=taken.getsockname()[1])

        def started() -> None:
            if announce:
                announce(
                    Started(
                        chosen,
                        reachable(chosen),
                        Policy(chosen).purpose,
                        None if keys.open else keys.count,
                        files and tls.fingerprint(files[0]),
                    )
                )

        return _serve(chosen, taken, files, configuration(log), started)


def _serve(
    settings: ServeSettings,
    taken: socket.socket,
    files: tuple[Path, Path] | None,
    log: dict[str, Any],
    started: Callable[[], None],
) -> int:
    if settings.workers > 1:
        from .workers import Order, Workers

        measures = settings.state / "measures"
        order = Order(settings=settings, socket=taken, certificate=files, log=log, measures=measures)
        ended = Workers(order, settings.workers).answer(started)
    else:
        from .process import Process

        ended = Process(settings, [taken], certificate=files, log=log, started=started).answer()
    return INTERRUPTED if ended == signal.SIGINT else 0


def reachable(settings: ServeSettings) -> str:
    """Return the address that people type; where the service listens at all addresses, the one others find it by."""
    from .tls import own_addresses

    if settings.origin is None and settings.host in {"0.0.0.0", "::", "[::]"}:  # noqa: S104  # compared, not bound
        return replace(settings, host=own_addresses()[0]).address
    return settings.address


def bind(host: str, port: int) -> socket.socket:
    """Take a port of this machine; 0: any that is free.

    Raises
    ------
    OptionError
        If the port is in use or the address is not one of this machine.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name like localhost has several; browsers try them all.
        family, kind, protocol, _, address = min(found, key=lambda f: f[0] != socket.AF_INET)
        taken = socket.socket(family, kind, protocol)
    except OSError as error:
        msg = f"{host} is not an address of this machine ({error.strerror or error})"
        raise OptionError(msg) from error
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    try:
        taken.bind(address)
    except OSError as error:
        taken.close()
        msg = f"cannot listen at {host}, port {port} ({error.strerror}); choose another with --port or --host"
        raise OptionError(msg) from error
    return taken


@contextmanager
def running(settings: ServeSettings, *, analyzer: Analyzer | None = None, run: bool = True) -> Iterator[str]:
    """Run the real server in a thread, as tests and benchmarks need it; give its address, as ``http://127.0.0.1:4711``.

    Parameters
    ----------
    settings
        ``port`` 0 takes a free one.
    analyzer, run
        As `app.create_app` takes them.
    """
    from . import tls
    from .process import Process

    with held(settings.state):
        files = tls.certificate_files(settings)
        taken = bind(settings.host, settings.port)
        chosen = replace(settings, port=taken.getsockname()[1])
        ready, failures = threading.Event(), list[BaseException]()
        process = Process(chosen, [taken], certificate=files, started=ready.set, analyzer=analyzer, run=run)

        def work() -> None:
            try:
                process.answer()
            except BaseException as error:  # noqa: BLE001  # raised again in the thread that waits
                failures.append(error)
            finally:
                ready.set()

        thread = threading.Thread(target=work, name="mien-serve", daemon=True)
        thread.start()
        ready.wait()
        try:
            if failures:
                raise failures[0]
            yield replace(chosen, origin=None).address
        finally:
            process.should_exit = True
            thread.join()
