"""Route of cameras: frames in, faces out, the newest frame wins."""

from __future__ import annotations

from fastapi import APIRouter

__all__ = ["router"]

router = APIRouter()
