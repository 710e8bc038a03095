"""A drop-in for the class ``FER`` of the package `fer`, without TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import OptionError
from .labels import SEVEN
from .media.stills import read_picture
from .pipeline.analyzer import Settings, analyzer
from .results.faces import Faces

__all__ = ["FER"]

# What `fer` offers and mien has no need of, with the value that changes nothing.
_DEFAULTS = {"cascade_file": None, "scale_factor": 1.1, "min_neighbors": 5, "tfserving": False, "compile": False}


class FER:
    """Reads the seven labels of FER2013 in one picture.

    Parameters
    ----------
    mtcnn
        Find faces with MTCNN instead of the Haar cascade.
    min_face_size
        Smallest face to look for, pixels.
    **ignored
        Options of `fer` that have no meaning here may only be given their defaults.

    Notes
    -----
    As there, an array is taken as OpenCV gives it: blue, green, red. Unlike there, scores are plain ``float``, not
    rounded, and boxes plain ``int``, so the answer can be written as JSON. Every face found is read, also a small or
    turned one; `mien.analyze` is more careful.
    """

    def __init__(self, *, mtcnn: bool = False, min_face_size: int = 50, **ignored: Any) -> None:
        for name, value in ignored.items():
            if name not in _DEFAULTS or value != _DEFAULTS[name]:
                msg = f"FER({name}={value!r}): mien has no such option; leave it out"
                raise OptionError(msg)
        self._analyzer = analyzer(
            Settings(detector="mtcnn" if mtcnn else "haar", labels="seven", min_face=min_face_size, read_all=True)
        )

    def _faces(self, img: Any) -> Faces:
        picture = read_picture(img)
        if isinstance(img, np.ndarray) and img.ndim == 3:
            picture = np.ascontiguousarray(picture[..., ::-1])
        faces = self._analyzer.picture(picture)
        return faces[faces.found]

    def detect_emotions(self, img: str | bytes | NDArray[np.uint8]) -> list[dict[str, Any]]:
        """Return ``[{"box": [x, y, width, height], "emotions": {"angry": …, …, "neutral": …}}]``.

        Parameters
        ----------
        img
            A path, bytes, or an array (H, W, 3) uint8 in the order blue, green, red.

        Raises
        ------
        SourceError
            If the picture cannot be read.
        """
        faces = self._faces(img)
        corners = np.rint(faces.box).astype(int)
        return [
            {
                "box": [x1, y1, x2 - x1, y2 - y1],
                "emotions": dict(zip(SEVEN.labels, scores, strict=True)),
            }
            for (x1, y1, x2, y2), scores in zip(corners.tolist(), faces.expression.astype(float).tolist(), strict=True)
        ]

    def top_emotion(self, img: str | bytes | NDArray[np.uint8]) -> tuple[str, float] | tuple[None, None]:
        """Return the label with the highest score of the first face, and the score; ``(None, None)`` without a face."""
        faces = self._faces(img)
        if not len(faces):
            return None, None
        return str(faces.top[0]), float(faces.top_score[0])
