"""Films as jobs: a table in SQLite that says what became of each, and a queue that outlives the process."""

from __future__ import annotations

from .settings import ServeSettings

__all__ = ["Jobs"]


class Jobs:
    """The jobs of a service; made in every process, the runner only in one."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings

    def start(self, *, run: bool) -> None:
        """Open the table; with ``run``, go on with what an earlier process left, and work."""

    def close(self) -> None:
        """Stop working; what runs is gone on with at the next start."""
