"""`mien runs`: every training run, two side by side, their curves, and how those that train are getting on."""

from __future__ import annotations

import datetime
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..errors import OptionError, SourceNotFoundError
from ..render.curves import dots, draw
from ..results.files import replacing
from ..train.runs import Run, differences, flat, higher_is_better, list_runs, read_run, varying
from .console import answer, errors, note, table_console

__all__ = ["runs"]

_STYLES = {"running": "green", "failed": "red", "interrupted": "yellow", "stopped": "yellow"}
_COLUMNS = ("name", "state", "net", "epoch", "best", "accuracy", "parameters", "time", "faces/s", "left", "when")
_SPARED = ("parameters", "faces/s", "when", "net", "time", "accuracy")
_RIGHT = frozenset({"epoch", "parameters", "time", "faces/s", "left"})
_LINES = ("blue", "bright_yellow", "magenta", "cyan", "green")
_HEIGHT = 4
_BLOCK = _HEIGHT + 4
"""Lines that one run takes in the live view."""


def runs(
    places: Annotated[
        list[str] | None,
        typer.Argument(help="A folder of runs (default: runs), then the names of the runs that are meant, if not all."),
    ] = None,
    compare: Annotated[
        list[str] | None, typer.Option(help="Put two runs side by side: give it twice, or just name two runs.")
    ] = None,
    curves: Annotated[Path | None, typer.Option(help="Draw the curves of these runs into one .png file.")] = None,
    show: Annotated[list[str] | None, typer.Option(help="A setting to give its own column: optim.lr")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show live how they get on; q or Ctrl-C ends it.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks of --watch.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show training runs: state, scores, settings, time; compare two, draw curves, or watch them train."""
    with errors():
        root, names = _where(places or [])
        names += compare or []
        if compare and len(names) != 2:
            msg = f"--compare takes two runs, got {len(names)}; give it twice: --compare A --compare B"
            raise OptionError(msg)
        if not every > 0:
            msg = f"--every {every:g}: it is a number of seconds, more than 0"
            raise OptionError(msg)

        def look() -> list[Run]:
            return _chosen(root, names)

        if watch:
            _watch(look, every)
        elif curves is not None:
            _draw(look(), curves)
        elif len(names) == 2:
            _side_by_side(*look(), as_json=as_json)
        elif len(names) == 1:
            _whole(look()[0], as_json=as_json)
        else:
            _list(look(), root, show or [], as_json=as_json)


def _where(places: list[str]) -> tuple[Path, list[str]]:
    """Return the folder of runs and the runs that are named; the first place is that folder if it is no run itself."""
    first = Path(places[0]) if places else None
    if first is not None and first.is_dir() and read_run(first).state == "foreign":
        return first, places[1:]
    return Path("runs"), places


def _chosen(root: Path, names: Sequence[str]) -> list[Run]:
    if not names:
        return list_runs(root)
    return [_named(root, name) for name in names]


def _named(root: Path, name: str) -> Run:
    for folder in (root / name, Path(name)):
        if folder.is_dir():
            return read_run(folder, name=name.rstrip("/"))
    known = ", ".join(r.name for r in list_runs(root) if r.state != "foreign") if root.is_dir() else ""
    msg = f"{name}: no such run in {root}; there is {known or 'none'}"
    raise SourceNotFoundError(msg)


def _list(found: list[Run], root: Path, show: Sequence[str], *, as_json: bool) -> None:
    ours = [r for r in found if r.state != "foreign"]
    foreign = [r.name for r in found if r.state == "foreign"]
    if as_json:
        answer({"runs": [r.as_dict() for r in ours], "not_runs": foreign})
        return
    if ours:
        console = table_console()
        console.print(_table(ours, show, console.width))
    else:
        note(f"no run in {root}; `mien train` makes one")
    if foreign:
        note(f"not runs: {', '.join(foreign)}")
    for run in ours:
        for problem in run.problems:
            note(f"{run.name}: {problem}")


def _table(found: list[Run], show: Sequence[str], width: int) -> Table:
    """Return a row a run, with the columns that fit; what no run has is left out."""
    settings = {s: [_short(flat(r.recipe).get(s, "–")) for r in found] for s in show}
    columns = {k: [cells[i] for cells in map(_cells, found)] for i, k in enumerate(_COLUMNS)}
    columns = {k: v for k, v in columns.items() if set(v) != {"–"}} | settings
    columns = _fitting(columns, width)
    varied = [s for s in varying(found) if s != "net"][:4]
    differing = {"settings": [_settings(run, varied) for run in found]}
    if varied and not show and min(_wide(columns | differing), _wide(columns) + 24) <= width:
        columns |= differing
    table = Table(box=None, pad_edge=False)
    for head in columns:
        kept = head in _COLUMNS and head != "name"
        table.add_column(head, justify="right" if head in _RIGHT else "left", overflow="fold", no_wrap=kept)
    for i, run in enumerate(found):
        row = {k: v[i] for k, v in columns.items()}
        table.add_row(*(Text(v, style=_STYLES.get(run.state, "") if k == "state" else "") for k, v in row.items()))
    return table


def _fitting(columns: dict[str, list[str]], width: int) -> dict[str, list[str]]:
    """Leave out what can be spared until the others fit."""
    for spared in _SPARED:
        if _wide(columns) > width:
            columns = {k: v for k, v in columns.items() if k != spared}
    return columns


def _wide(columns: dict[str, list[str]]) -> int:
    return sum(max(map(len, [k, *v])) + 2 for k, v in columns.items())


def _settings(run: Run, names: Sequence[str]) -> str:
    settings = flat(run.recipe)
    return "  ".join(f"{s.rpartition('.')[2]}={_short(settings[s])}" for s in names if s in settings)


def _cells(run: Run) -> list[str]:
    best = run.best
    return [
        run.name,
        run.state,
        str(run.recipe.get("net", "–")),
        f"{run.epoch}/{run.epochs if run.epochs is not None else '?'}",
        "–" if best is None else f"{best.metric} {best.value:.4g} at {best.epoch}",
        "  ".join(f"{k} {v:.4f}".strip() for k, v in run.accuracies().items()) or "–",
        f"{run.facts['parameters']:,}" if isinstance(run.facts.get("parameters"), int) else "–",
        _duration(run.seconds),
        _figure(run.facts.get("rate"), ".0f"),
        _duration(run.facts.get("eta_seconds")) if run.state == "running" else "–",
        _when(run.updated),
    ]


def _whole(run: Run, *, as_json: bool) -> None:
    if as_json:
        answer(run.as_dict())
        return
    console = table_console()
    console.print(_table([run], [], console.width))
    table = Table(box=None, pad_edge=False)
    table.add_column("setting")
    table.add_column("value", overflow="fold")
    for name, value in flat(run.recipe).items():
        table.add_row(name, _short(value))
    scores = Table(box=None, pad_edge=False)
    scores.add_column("score at the best epoch")
    scores.add_column("value", justify="right")
    for name, number in run.at_best().items():
        scores.add_row(name, _figure(number, ".5g"))
    for part in ("", table, "", scores):
        console.print(part)
    if error := run.facts.get("error"):
        note(f"it failed: {error}")
    for problem in run.problems:
        note(f"{run.name}: {problem}")


def _side_by_side(a: Run, b: Run, *, as_json: bool) -> None:
    found = differences(a, b)
    if as_json:
        answer(
            {
                "runs": [a.as_dict(), b.as_dict()],
                "settings": {k: [x, y] for k, x, y in found.settings},
                "scores": {k: [x, y] for k, x, y in found.scores},
            }
        )
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("setting")
    for run in (a, b):
        table.add_column(run.name, overflow="fold")
    for name, first, second in found.settings:
        table.add_row(name, *("–" if v is None else _short(v) for v in (first, second)))
    if not found.settings:
        table.add_row("no setting differs")
    scores = Table(box=None, pad_edge=False)
    scores.add_column("score at the best epoch")
    for head in (a.name, b.name, "difference"):
        scores.add_column(head, justify="right", overflow="fold")
    for name, left, right in found.scores:
        apart = "–" if left is None or right is None else f"{right - left:+.4g}"
        scores.add_row(name, *_marked(name, left, right), apart)
    console = table_console()
    for part in (table, "", scores, "* the better one"):
        console.print(part)


def _marked(name: str, left: float | None, right: float | None) -> tuple[str, str]:
    """Return two scores, the better one with a star where the name says which way is better."""
    texts = [_figure(v, ".7g" if name in {"parameters", "seconds"} else ".5g") for v in (left, right)]
    judged = name.startswith(("val_", "train_")) and left is not None and right is not None and left != right
    if judged and left is not None and right is not None:
        better = int((right > left) == higher_is_better(name))
        texts[better] = f"* {texts[better]}"
    return texts[0], texts[1]


def _draw(found: list[Run], path: Path) -> None:
    drawn = [r for r in found if r.history or r.steps]
    if path.suffix.lower() != ".png":
        msg = f"--curves {path}: curves are drawn into a .png file"
        raise OptionError(msg)
    if not drawn:
        msg = f"--curves {path}: none of the {len(found)} runs has an epoch yet"
        raise OptionError(msg)
    picture = draw([r.curves() for r in drawn])
    with replacing(path) as temporary:
        temporary.write_bytes(picture)
    note(f"wrote {path} with the curves of {', '.join(r.name for r in drawn)}")


def _watch(look: Callable[[], list[Run]], every: float) -> None:
    console = table_console()
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        console.print(live_view(look(), width=console.width, room=10_000))
        return
    with _keys(every) as wait, Live(console=console, screen=True, auto_refresh=False) as live:

        def put(found: list[Run]) -> None:
            view = live_view(found, width=console.width, room=console.height - 1)
            live.update(view, refresh=True)

        follow(look, put, wait)


def follow(look: Callable[[], list[Run]], put: Callable[[list[Run]], None], wait: Callable[[], bool]) -> None:
    """Look at the runs and show them, again and again, until ``wait`` says that it is enough, or Ctrl-C is pressed."""
    try:
        put(look())
        while not wait():
            put(look())
    except KeyboardInterrupt:
        return


def live_view(found: Sequence[Run], *, width: int, room: int) -> RenderableType:
    """Return the live view of runs, those that train first, as many as fit into ``room`` lines."""
    ours = sorted((r for r in found if r.state != "foreign"), key=lambda r: r.state != "running")
    fit = ours[: max(room // _BLOCK, 1)]
    parts: list[RenderableType] = [part for run in fit for part in _block(run, width)]
    if left := [r.name for r in ours[len(fit) :]]:
        parts.append(Text(f"and {len(left)} more: {', '.join(left)}", style="dim", no_wrap=True, overflow="ellipsis"))
    return Group(*parts) if parts else Text("no run yet")


def _block(run: Run, width: int) -> list[RenderableType]:
    best = run.best
    title = Text(no_wrap=True, overflow="ellipsis")
    title.append(run.name, style="bold")
    title.append(f"  {run.state}", style=_STYLES.get(run.state, ""))
    title.append(f"  epoch {run.epoch}/{run.epochs or '?'}")
    if isinstance(run.facts.get("steps"), int):
        title.append(f"  step {run.facts.get('step')}/{run.facts['steps']}")
    if run.state == "running":
        title.append(
            f"  {_figure(run.facts.get('rate'), '.0f')} faces/s  {_duration(run.facts.get('eta_seconds'))} left"
        )
    if best is not None:
        title.append(f"  best {best.metric} {best.value:.4g} at {best.epoch}", style="dim")
    if error := run.facts.get("error"):
        title.append(f"  {error}", style="red")
    grid = Table.grid(expand=False, padding=(0, 2))
    each = max((width - 6) // 3, 12)
    for _ in range(3):
        grid.add_column(width=each)
    grid.add_row(*(_plot(name, lines, each) for name, lines in _plots(run)))
    return [title, grid, Text()]


Lines = list[tuple[str, tuple[Any, Any]]]


def _plots(run: Run) -> list[tuple[str, Lines]]:
    """Return what is plotted of a run: the name of each plot, and its lines by theirs."""
    curves = run.curves()
    loss, lr = curves.over_steps("loss"), curves.over_steps("lr")
    losses = {"train": loss if len(loss[0]) else curves.series("train_loss"), "held out": curves.series("val_loss")}
    heads = {k: curves.series(f"val_{k}_accuracy" if k else "val_accuracy") for k in run.accuracies()}
    rates = {"": lr if len(lr[0]) else curves.series("lr")}
    return [("loss", list(losses.items())), ("accuracy", list(heads.items())), ("learning rate", list(rates.items()))]


def _plot(name: str, lines: Lines, width: int) -> RenderableType:
    """Return a plot: its name with the last value of each line, the dots, and the range at their right."""
    finite = [v for _, (_, y) in lines for v in y if math.isfinite(v)]
    head = Text(name, style="bold", no_wrap=True, overflow="ellipsis")
    for i, (label, (_, y)) in enumerate(lines):
        last = next((v for v in reversed(y) if math.isfinite(v)), math.nan)
        head.append(
            f"  {label} {_figure(last, '.4g')}".replace("   ", "  "), style=f"not bold {_LINES[i % len(_LINES)]}"
        )
    ends = [f"{max(finite):.3g}", *[""] * (_HEIGHT - 2), f"{min(finite):.3g}"] if finite else [""] * _HEIGHT
    rows = dots([line for _, line in lines], width=max(width - 8, 4), height=_HEIGHT)
    body = [_row(row, end) for row, end in zip(rows, ends, strict=True)]
    return Group(head, *body)


def _row(row: list[tuple[str, int]], end: str) -> Text:
    text = Text(no_wrap=True)
    for character, owner in row:
        text.append(character, style=_LINES[owner % len(_LINES)] if owner >= 0 else "")
    return text.append(f" {end}", style="dim")


@contextmanager
def _keys(seconds: float) -> Iterator[Callable[[], bool]]:
    """Give a function that waits so long and says whether q was pressed meanwhile."""
    try:
        import select
        import termios
        import tty
    except ImportError:  # Windows: Ctrl-C ends it

        def sleep() -> bool:
            time.sleep(seconds)
            return False

        yield sleep
        return
    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    tty.setcbreak(file)

    def wait() -> bool:
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        return bool(ready) and sys.stdin.read(1) in {"q", "Q", ""}

    try:
        yield wait
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)


def _duration(seconds: object) -> str:
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, hours = whole // 60, whole // 3600
    return f"{minutes} min" if minutes < 60 else f"{hours} h {minutes % 60} min"


def _when(updated: float) -> str:
    if not math.isfinite(updated):
        return "–"
    return datetime.datetime.fromtimestamp(updated, tz=datetime.UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def _figure(value: object, form: str) -> str:
    return format(value, form) if isinstance(value, int | float) and math.isfinite(value) else "–"


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
