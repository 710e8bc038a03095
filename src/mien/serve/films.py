"""Routes of films: send one in, watch it, fetch what came of it."""

from __future__ import annotations

from fastapi import APIRouter

__all__ = ["router"]

router = APIRouter()
