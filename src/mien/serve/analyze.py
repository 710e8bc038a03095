"""Route of pictures: pictures in, faces out, nothing kept."""

from __future__ import annotations

from fastapi import APIRouter

__all__ = ["router"]

router = APIRouter()
