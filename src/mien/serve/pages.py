"""Routes of the page: its one document, its parts, the notice sheet, the QR code."""

from __future__ import annotations

from fastapi import APIRouter

__all__ = ["router"]

router = APIRouter(include_in_schema=False)
