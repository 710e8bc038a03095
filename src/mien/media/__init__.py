"""Pixels in and out: pictures, films, cameras."""

from .camera import Camera
from .source import Kind, Source, find, sniff
from .stills import DEFAULT_MAX_PIXELS, read_picture
from .video import Film, Frame
from .writer import FilmWriter, write_picture

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "Camera",
    "Film",
    "FilmWriter",
    "Frame",
    "Kind",
    "Source",
    "find",
    "read_picture",
    "sniff",
    "write_picture",
]
