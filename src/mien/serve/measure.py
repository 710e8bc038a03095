"""What the service counts of itself, as Prometheus reads it."""

from __future__ import annotations

__all__ = ["Measures"]


class Measures:
    """Counters and times of one process."""

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer: the route as it is written in the application, never the path that was asked for."""

    def refused(self, why: str) -> None:
        """Count a request that was turned away: a code of `problem.Problem`."""

    def read(self, faces: int, seconds: float) -> None:
        """Count one call of the expression model."""

    def picture(self, seconds: float) -> None:
        """Count one picture, from its turn to its faces."""

    def frame(self, *, dropped: int = 0) -> None:
        """Count a frame of a camera, and those that newer ones took the place of."""

    def job(self, state: str) -> None:
        """Count a film that came into a state."""

    def text(self) -> bytes:
        """Return all of it in Prometheus' text form."""
        return b""
