"""One colour for each expression, told apart by colour-blind eyes too, and the ink that is read on it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..labels import EIGHT, canonical

__all__ = ["BLACK", "COLOURS", "GREY", "RGB", "WHITE", "colours", "contrast", "ink", "luminance"]

RGB = tuple[int, int, int]
"""Red, green and blue, each in 0 … 255, sRGB."""

BLACK: RGB = (0, 0, 0)
WHITE: RGB = (255, 255, 255)

GREY: RGB = (132, 132, 132)
"""For a face without a named expression, and for a picture without a face."""

# Found by a search that makes the smallest CIEDE2000 distance of any two, GREY among them, as large as it gets for
# normal, protanope and deuteranope eyes together; it is above 14 for each. The tests measure it.
COLOURS: Mapping[str, RGB] = MappingProxyType(
    dict(
        zip(
            EIGHT.labels,
            (
                (165, 36, 0),
                (0, 112, 76),
                (108, 45, 82),
                (245, 225, 60),
                (10, 10, 248),
                (232, 130, 36),
                (58, 194, 255),
                (255, 104, 190),
            ),
            strict=True,
        )
    )
)
"""The colour of each of the eight labels."""


def colours(labels: tuple[str, ...]) -> dict[str, RGB]:
    """Return a colour for each label: its own for one of the eight, one that is left over for any other.

    More labels than colours share them in turn.

    >>> colours(("smile", "neutral"))["neutral"] == COLOURS["neutral"]
    True
    """
    known = {label: COLOURS[canonical(label)] for label in labels if canonical(label) in COLOURS}
    free = [c for c in COLOURS.values() if c not in known.values()] or list(COLOURS.values())
    others = [label for label in labels if label not in known]
    given = {label: free[i % len(free)] for i, label in enumerate(others)}
    return {label: (known | given)[label] for label in labels}


def luminance(colour: RGB) -> float:
    """Return the relative luminance of a colour, 0 for black to 1 for white (WCAG 2.1)."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a: RGB, b: RGB) -> float:
    """Return the contrast of two colours, 1 for equal ones to 21 for black and white (WCAG 2.1)."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def ink(colour: RGB) -> RGB:
    """Return black or white, whichever is read better on a colour; the contrast is at least 4.5."""
    return max(BLACK, WHITE, key=lambda c: contrast(c, colour))
