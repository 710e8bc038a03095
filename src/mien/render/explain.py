"""One figure that explains a reading: the face, the mixture of scores, Grad-CAM, occlusion, and feature maps."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingExtraError
from ..image import Picture
from .palette import colours

__all__ = ["Explained", "draw", "sheet"]

_INK, _PALE, _LINE = "#222222", "#8A8A8A", "#DDDDDD"
_INCHES = 14.0
_TOP, _EDGE = 3.65, 0.35
_MOST = 128
_MARKS = "DosP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What is drawn of one face.

    Attributes
    ----------
    title
        For the head of the figure.
    crop
        (H, W) or (H, W, 3) uint8, what the model was shown.
    label
        The label that the maps are about.
    scores
        By head, the explained one first: label and score in [0, 1].
    cam
        (H, W) float32 in [0, 1].
    cam_layer
        The layer that it was taken at.
    occlusion
        (H, W) float32, how far the score falls.
    patch
        Side of the covering patch, pixels of the crop.
    maps
        By layer: (C, h, w) float32.
    picture
        (H, W, 3) uint8 RGB, the photograph that the face comes from; None for a ready crop.
    box
        x1 y1 x2 y2 of the face in it, pixels.
    """

    title: str
    crop: NDArray[np.uint8]
    label: str
    scores: Mapping[str, Mapping[str, float]]
    cam: NDArray[np.float32]
    cam_layer: str
    occlusion: NDArray[np.float32]
    patch: int
    maps: Mapping[str, NDArray[np.float32]]
    picture: Picture | None = None
    box: tuple[float, float, float, float] | None = None


def draw(face: Explained, *, width: int = 1560) -> bytes:
    """Draw the explanation of one face, and return the bytes of a PNG picture.

    Grad-CAM lies over the crop where it has weight. The occlusion map is red where the score falls when the place is
    covered, blue where it rises, white where nothing happens. Feature maps share one range for each layer.

    Parameters
    ----------
    face
        What is drawn.
    width
        Of the picture, px.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        package = "matplotlib"
        raise MissingExtraError(package, "report")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sheets = {name: sheet(maps[:_MOST], _columns(maps[:_MOST])) for name, maps in face.maps.items()}
    below = _below(list(sheets.values()))
    height = _TOP + below + 0.3
    figure = Figure(figsize=(_INCHES, height), dpi=width / _INCHES, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    figure.text(
        _EDGE / _INCHES, 1 - 0.42 / height, _short(face.title, 90), fontsize=15, color=_INK, weight="bold", va="center"
    )
    _above(figure, face, height)
    _tiles(figure, face, sheets, height, below)
    out = io.BytesIO()
    canvas.print_figure(out, format="png")
    return out.getvalue()


def sheet(maps: NDArray[np.float32], columns: int) -> NDArray[np.float32]:
    """Return feature maps (C, h, w) side by side, row by row, with gaps of NaN between them.

    >>> sheet(np.ones((3, 2, 2), np.float32), 2).shape
    (5, 5)
    """
    count, height, width = maps.shape
    gap = max(1, round(max(height, width) / 12))
    rows = -(-count // columns)
    out = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan, np.float32)
    for i, one in enumerate(maps):
        y, x = i // columns * (height + gap), i % columns * (width + gap)
        out[y : y + height, x : x + width] = one
    return out


def _columns(maps: NDArray[np.float32]) -> int:
    """Return how many maps stand in a row so that a sheet is about twice as wide as high."""
    return max(1, int(np.ceil(np.sqrt(2 * len(maps)))))


def _below(sheets: Sequence[NDArray[np.float32]]) -> float:
    """Return the height of the row of feature maps, inches."""
    if not sheets:
        return 0.0
    wide = (_INCHES - _EDGE * (len(sheets) + 1)) / len(sheets)
    return max([wide * s.shape[0] / s.shape[1] for s in sheets], default=0.0) + 0.45


def _above(figure: Any, face: Explained, height: float) -> None:
    """Draw the first row: the photograph if there is one, the crop, both maps, and the scores."""
    side, gap = (2.25, 0.2) if face.picture is not None else (2.5, 0.3)
    base, left = height - _TOP + 0.25, _EDGE

    def place(inches: float) -> Any:
        nonlocal left
        axes = figure.add_axes((left / _INCHES, base / height, inches / _INCHES, 2.55 / height))
        left += inches + gap
        return axes

    if face.picture is not None:
        _photograph(place(side), face)
    _crop(place(side), face)
    _cam(place(side), face)
    _occlusion(figure, place(side), face)
    left += 1.15
    _mixture(place(_INCHES - left - _EDGE), face)


def _bare(axes: Any, title: str, under: str = "") -> None:
    axes.set_title(title, fontsize=10.5, color=_INK, loc="left")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_anchor("NW")
    for spine in axes.spines.values():
        spine.set_visible(False)
    if under:
        axes.text(0, -0.03, under, transform=axes.transAxes, fontsize=8, color=_PALE, va="top")


def _photograph(axes: Any, face: Explained) -> None:
    from matplotlib.patches import Rectangle

    axes.imshow(_near(face))
    if face.box is not None:
        x, y = _corner(face)
        x1, y1, x2, y2 = face.box
        axes.add_patch(Rectangle((x1 - x, y1 - y), x2 - x1, y2 - y1, fill=False, edgecolor="white", linewidth=3))
        axes.add_patch(Rectangle((x1 - x, y1 - y), x2 - x1, y2 - y1, fill=False, edgecolor=_INK, linewidth=1.2))
    _bare(axes, "photograph")


def _window(face: Explained) -> tuple[int, int, int, int]:
    """Return the part of the photograph that is shown: three faces wide, about the face."""
    shape = face.picture.shape if face.picture is not None else (1, 1)
    if face.box is None:
        return 0, 0, int(shape[1]), int(shape[0])
    x1, y1, x2, y2 = face.box
    side = min(3.0 * max(x2 - x1, y2 - y1), *shape[:2])
    left = min(max((x1 + x2 - side) / 2, 0), shape[1] - side)
    top = min(max((y1 + y2 - side) / 2, 0), shape[0] - side)
    return int(left), int(top), max(1, int(side)), max(1, int(side))


def _corner(face: Explained) -> tuple[int, int]:
    return _window(face)[:2]


def _near(face: Explained) -> Any:
    left, top, wide, high = _window(face)
    return None if face.picture is None else face.picture[top : top + high, left : left + wide]


def _grey(crop: NDArray[np.uint8]) -> NDArray[np.float64]:
    # Rec. 601, the weights of a grey crop's own preparation.
    plain = crop.astype(np.float64) / 255
    return plain if plain.ndim == 2 else plain @ np.array([0.299, 0.587, 0.114])


def _crop(axes: Any, face: Explained) -> None:
    axes.imshow(face.crop, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    high, wide = face.crop.shape[:2]
    _bare(axes, "what the model sees", f"{wide} × {high} pixels")


def _cam(axes: Any, face: Explained) -> None:
    grey = _grey(face.crop)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=1)
    axes.imshow(
        face.cam, cmap="inferno", vmin=0, vmax=1, alpha=np.clip(face.cam * 1.2, 0, 0.72), interpolation="bilinear"
    )
    under = f"at layer {_short(face.cam_layer)}" if face.cam.max() > 0 else "no evidence for it at this layer"
    _bare(axes, f"Grad-CAM for {face.label}", under)


def _occlusion(figure: Any, axes: Any, face: Explained) -> None:
    grey = _grey(face.crop)
    most = max(float(np.abs(face.occlusion).max()), 1e-6)
    axes.imshow(0.5 + grey / 2, cmap="gray", vmin=0, vmax=1)
    image = axes.imshow(face.occlusion, cmap="RdBu_r", vmin=-most, vmax=most, alpha=0.75, interpolation="bilinear")
    _bare(
        axes,
        "fall of the score when covered",
        f"patch of {face.patch} × {face.patch} pixels; red: it falls, blue: it rises",
    )
    axes.apply_aspect()
    spot = axes.get_position()
    bar = figure.add_axes((spot.x1 + 0.08 / _INCHES, spot.y0, 0.1 / _INCHES, spot.height))
    figure.colorbar(image, cax=bar)
    bar.tick_params(labelsize=7.5, color=_LINE, labelcolor=_INK)
    bar.set_yticks([-most, 0, most], [f"{-most:+.2g}", "0", f"{most:+.2g}"])
    bar.spines["outline"].set_visible(False)


def _mixture(axes: Any, face: Explained) -> None:
    heads = list(face.scores)
    main = face.scores[heads[0]]
    names = list(main)
    tints = {n: tuple(v / 255 for v in rgb) for n, rgb in colours(tuple(names)).items()}
    place = {name: i for i, name in enumerate(names)}
    values = [main[name] for name in names]
    axes.barh(range(len(names)), values, color=[tints[n] for n in names], edgecolor=_INK, linewidth=0.5, height=0.68)
    for mark, head in zip(_MARKS, heads[1:], strict=False):
        shared = {n: v for n, v in face.scores[head].items() if n in place}
        axes.scatter(
            list(shared.values()), [place[n] for n in shared],
            marker=mark, s=26, facecolor="white", edgecolor=_INK, linewidth=1.1, zorder=3, clip_on=False, label=head,
        )  # fmt: skip
    for name, value in main.items():
        reach = max([value] + [face.scores[h].get(name, 0.0) for h in heads[1:]])
        weight = "bold" if name == face.label else "normal"
        axes.text(reach + 0.05, place[name], f"{value:.3f}", va="center", fontsize=9, color=_INK, weight=weight)
    axes.set_yticks(range(len(names)), names, fontsize=9.5)
    for tick, name in zip(axes.get_yticklabels(), names, strict=True):
        tick.set_weight("bold" if name == face.label else "normal")
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.set_xlim(0, 1.16)
    axes.set_xticks([0, 0.5, 1])
    axes.tick_params(length=0, labelsize=8.5, labelcolor=_INK)
    axes.grid(axis="x", color=_LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(f"all scores: {heads[0]}", fontsize=10.5, color=_INK, loc="left")
    if len(heads) > 1:
        axes.legend(
            loc="lower right", bbox_to_anchor=(1, 1.005), fontsize=9, frameon=False, handletextpad=0.2, borderpad=0
        )


def _tiles(
    figure: Any, face: Explained, sheets: Mapping[str, NDArray[np.float32]], height: float, below: float
) -> None:
    """Draw the second row: a sheet of feature maps for each layer."""
    if not sheets:
        return
    wide = (_INCHES - _EDGE * (len(sheets) + 1)) / len(sheets)
    for i, (name, tiles) in enumerate(sheets.items()):
        left = _EDGE + i * (wide + _EDGE)
        high = below - 0.45
        axes = figure.add_axes((left / _INCHES, 0.25 / height, wide / _INCHES, high / height))
        low, top = np.nanpercentile(tiles, [0.5, 99.5])
        axes.imshow(tiles, cmap="magma", vmin=low, vmax=max(top, low + 1e-6), interpolation="nearest")
        count, rows, columns = face.maps[name].shape
        shown = f", the first {_MOST} shown" if count > _MOST else ""
        _bare(axes, f"feature maps of {_short(name)}: {count} of {columns} × {rows}{shown}")


def _short(name: str, most: int = 40) -> str:
    return name if len(name) <= most else "…" + name[1 - most :]
