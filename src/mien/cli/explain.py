"""`mien explain`: what a model looks at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ..errors import OptionError, OutputError
from ..evaluate.explain import Explainer, Explanation
from ..media.stills import read_picture
from ..render.explain import Explained, draw
from .console import answer, errors, note, table_console
from .opening import open_model

__all__ = ["explain"]


def explain(
    model: Annotated[str, typer.Argument(help="A bundled model, an .onnx file with its card, or a training run.")],
    picture: Annotated[
        Path | None, typer.Argument(help="A photograph; or with --crop a ready crop.", show_default=False)
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(help="Layer whose feature maps are drawn, by name or number; Grad-CAM at the last one named."),
    ] = None,
    label: Annotated[str | None, typer.Option(help="The label to explain; the best if not given.")] = None,
    head: Annotated[str | None, typer.Option(help="The head to explain; the first if not given.")] = None,
    face: Annotated[int | None, typer.Option(help="Only this face of the photograph, as analyze counts.")] = None,
    crop: Annotated[bool, typer.Option("--crop", help="The picture is a ready crop: look for no face.")] = False,
    out: Annotated[
        Path, typer.Option(help="The figure, .png; of several faces each has its number in the name.")
    ] = Path("explain.png"),
    threads: Annotated[int, typer.Option(help="Threads of the networks; 0: one a processor.")] = 0,
    list_layers: Annotated[bool, typer.Option("--list-layers", help="Only list the layers.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document with the maps.")] = False,
) -> None:
    """Show why a model says what it says: all scores, Grad-CAM, an occlusion map, feature maps of any layer."""
    with errors():
        opened = Explainer(open_model(model, threads=threads), threads=threads)
        if list_layers:
            _list(opened, as_json=as_json)
            return
        if picture is None:
            msg = "which picture? name one, or give --list-layers"
            raise OptionError(msg)
        made = []
        for explanation, drawn, facts, number in _faces(opened, picture, face, crop, head, label, layer or []):
            file = out if number is None else out.with_stem(f"{out.stem}-{number}")
            _write(file, draw(drawn))
            made.append(explanation.as_dict() | facts | {"figure": str(file)})
            if not as_json:
                _say(explanation, file)
        if as_json:
            answer({"picture": str(picture), "faces": made})


def _faces(
    opened: Explainer,
    file: Path,
    only: int | None,
    crop: bool,
    head: str | None,
    label: str | None,
    layers: list[str],
) -> Iterator[tuple[Explanation, Explained, dict[str, Any], int | None]]:
    """Yield each face's explanation, what to draw, where the face is, and its number if there are several."""
    picture = read_picture(file)
    if crop:
        found = opened.explain(picture, head=head, label=label, layers=layers)
        yield found, _drawn(found, file.name), {}, None
        return
    boxes, crops = opened.faces(picture, name=str(file))
    if only is not None and not 0 <= only < len(boxes):
        msg = f"{file}: no face {only}; it has 0 to {len(boxes) - 1}"
        raise OptionError(msg)
    wanted = range(len(boxes)) if only is None else [only]
    for i in wanted:
        found = opened.explain(crops[i], head=head, label=label, layers=layers)
        box = tuple(float(v) for v in boxes.box[i])
        name = f"{file.name}, face {i}" if len(boxes) > 1 else file.name
        drawn = _drawn(found, name, picture=picture, box=box)
        yield found, drawn, {"face": i, "box": list(box)}, i if len(wanted) > 1 else None


def _drawn(found: Explanation, name: str, **place: Any) -> Explained:
    order = sorted(found.scores, key=lambda head: head != found.head)
    scores = {h: dict(zip(found.scores[h][0], found.scores[h][1].tolist(), strict=True)) for h in order}
    return Explained(
        title=f"{name}: {found.label} {scores[found.head][found.label]:.3f}",
        crop=found.crop,
        label=found.label,
        scores=scores,
        cam=found.cam,
        cam_layer=found.cam_layer,
        occlusion=found.occlusion,
        patch=found.patch,
        maps=found.maps,
        **place,
    )


def _write(file: Path, figure: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(figure)
    except OSError as error:
        msg = f"{file}: cannot write the figure ({error.strerror}); name another with --out"
        raise OutputError(msg) from error


def _say(found: Explanation, file: Path) -> None:
    labels, scores = found.scores[found.head]
    best = sorted(zip(labels, scores.tolist(), strict=True), key=lambda pair: -pair[1])
    note(f"wrote {file}: {found.head}: {', '.join(f'{name} {score:.3f}' for name, score in best)}")


def _list(opened: Explainer, *, as_json: bool) -> None:
    if as_json:
        rows = [{"index": x.index, "name": x.name, "kind": x.kind, "shape": list(x.shape)} for x in opened.layers]
        answer({"layers": rows})
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, right in (("number", True), ("layer", False), ("made by", False), ("maps", True), ("size", True)):
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    for x in opened.layers:
        channels, height, width = x.shape
        table.add_row(str(x.index), x.name, x.kind, str(channels), f"{width}×{height}")
    table_console().print(table)
