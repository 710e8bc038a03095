"""`mien sweep`: one recipe with every combination of some settings."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ..errors import MissingExtraError, OptionError
from .console import INPUT_FAILED, answer, errors, note, table_console

if TYPE_CHECKING:
    from ..train.grid import Plan
    from ..train.sweep import Result

__all__ = ["sweep"]


def sweep(
    recipe: Annotated[Path, typer.Argument(help="A recipe; or the folder of a sweep, to carry it on as it was begun.")],
    data: Annotated[Path, typer.Option(help="What to train on, as for `mien train`.")],
    grid: Annotated[
        list[str] | None,
        typer.Option(help="A setting and its values: net.depth=2,3,4. Give it again for the next setting."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting of all points: epochs=20")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Runs at a time.", min=1)] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder of the sweep; default runs/NAME-sweep.")] = None,
    limit: Annotated[int | None, typer.Option(help="Use only so many faces, to try a recipe.", min=2)] = None,
    take: Annotated[
        int | None, typer.Option("--random", help="Draw so many of the combinations by chance.", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides which combinations --random draws.")] = 0,
    only_list: Annotated[bool, typer.Option("--list", help="Only say which runs it would make.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as one JSON document.")] = False,
) -> None:
    """Train a recipe with every combination of some settings; resumable, several at a time.

    ``net.X`` is an option of the net, ``train.X`` a setting of the recipe, of its optimizer or its augmentation, else
    an option of the net; any other name is written as in the recipe: optim.lr, augment.mixup. A point that is finished
    is not trained again, and one that was interrupted goes on: give the same command, here or where the folder was
    copied to.
    """
    with errors():
        for package in ("torch", "lightning"):
            if find_spec(package) is None:
                raise MissingExtraError(package, "train")
        from ..train.grid import plan, planned
        from ..train.sweep import sweep as run

        if recipe.is_dir():
            if grid or settings or limit is not None or take is not None:
                msg = f"{recipe} is a sweep with its own plan; name a recipe to give another"
                raise OptionError(msg)
            chosen, folder = planned(recipe), out or recipe
        else:
            chosen = plan(recipe, grid or (), settings=settings or (), limit=limit, take=take, seed=seed)
            folder = out or Path("runs") / f"{chosen.base.name}-sweep"
        if only_list:
            _list(chosen)
            return
        note(f"{len(chosen.points)} runs in {folder}; `mien runs {folder} --watch` shows how they get on")
        counted = {p.name: i for i, p in enumerate(chosen.points, 1)}

        def tell(what: str, result: Result) -> None:
            note(f"{counted[result.point.name]}/{len(counted)}  {result.point.name}  {_words(what, result)}")

        try:
            found = run(chosen, data, folder, jobs=jobs, tell=tell)
        except KeyboardInterrupt:
            note("stopped; the same command goes on with it")
            raise
        if as_json:
            answer({"folder": str(folder), "results": [r.as_dict() for r in found]})
        else:
            table_console().print(_table(found, list(chosen.grid)))
        _end(found)


def _list(chosen: Plan) -> None:
    table = Table(box=None, pad_edge=False)
    for head in ("name", *chosen.grid):
        table.add_column(head, overflow="fold")
    for point in chosen.points:
        table.add_row(point.name, *(str(v) for v in point.settings.values()))
    table_console().print(table)


def _words(what: str, result: Result) -> str:
    best = result.run.best if result.run else None
    if what == "started":
        return "started" if result.run is None or not result.run.epoch else f"goes on after epoch {result.run.epoch}"
    if what == "running":
        return "is trained by another process already; left to it"
    score = "" if best is None else f", {best.metric} {best.value:.4g} at {best.epoch}"
    return f"{what}: {result.error}" if result.error else what + score


def _table(found: Sequence[Result], names: Sequence[str]) -> Table:
    rows = [r.as_dict() for r in found]
    metric = next((r["metric"] for r in rows if r["metric"]), "best")
    scores = sorted({k for r in rows for k in r if k.startswith("val_") and k.endswith("accuracy") and k != metric})
    table = Table(box=None, pad_edge=False)
    for head in names:
        table.add_column(head, overflow="fold")
    for head in (metric, "at", *scores, "parameters", "minutes"):
        table.add_column(str(head), justify="right")
    table.add_column("state")
    for row in rows:
        cells = [_figure(row[k], f) for k, f in (("value", ".4f"), ("best_epoch", "d"))]
        cells += [_figure(row.get(k), ".4f") for k in scores]
        cells += [_figure(row["parameters"], ",d"), _figure(row["seconds"] and row["seconds"] / 60, ".1f")]
        table.add_row(*(str(row[n]) for n in names), *cells, row["state"])
    return table


def _figure(value: Any, form: str) -> str:
    return "–" if value is None else format(value, form)


def _end(found: Sequence[Result]) -> None:
    failed = [r for r in found if r.error]
    for result in failed:
        note(f"failed: {result.point.name}: {result.error}")
    if failed:
        note(f"mien: {len(failed)} of {len(found)} runs failed; the same command tries them again")
        raise typer.Exit(INPUT_FAILED)
