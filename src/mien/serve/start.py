"""Start the service: check what it was told, open its state and its port, answer, end in order."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import OptionError
from .settings import ServeSettings

if TYPE_CHECKING:
    from ..pipeline.analyzer import Analyzer

__all__ = ["bind", "running"]


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
    from .process import Process

    taken = bind(settings.host, settings.port)
    chosen = replace(settings, port=taken.getsockname()[1])
    ready, failures = threading.Event(), list[BaseException]()
    process = Process(chosen, [taken], started=ready.set, analyzer=analyzer, run=run)

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
