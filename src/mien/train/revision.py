"""Which state of the code a run was made with."""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ["revision"]


def revision() -> str:
    """Return the short commit of the checkout that this file lies in, or nothing outside one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  # nothing from outside
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
