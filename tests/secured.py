"""A server with a certificate of its own, for tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

from mien.pipeline.analyzer import Analyzer
from mien.serve import tls
from mien.serve.process import Process
from mien.serve.settings import ServeSettings
from mien.serve.start import bind


@contextmanager
def secured(settings: ServeSettings, analyzer: Analyzer) -> Iterator[str]:
    """Run the real server with a self-signed certificate, which lies under its state; give its address."""
    taken = bind(settings.host, 0)
    chosen = replace(settings, port=taken.getsockname()[1], tls="self-signed")
    # How this machine reaches others is not asked in a test.
    with mock.patch.object(tls, "own_addresses", return_value=("127.0.0.1",)):
        files = tls.certificate_files(chosen)
    ready = threading.Event()
    process = Process(chosen, [taken], certificate=files, started=ready.set, analyzer=analyzer, run=False)
    thread = threading.Thread(target=process.answer, daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield chosen.address
    finally:
        process.should_exit = True
        thread.join()
