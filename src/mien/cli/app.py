"""The command `mien`: all commands, one file a noun, each imported when it is called."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from .. import __version__

__all__ = ["COMMANDS", "GROUPS", "app", "run"]

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "analyze": "analyze",
        "film": "film",
        "demo": "demo",
        "models": "models",
        "data": "data",
        "train": "train",
        "runs": "runs",
        "sweep": "sweep",
        "export": "export",
        "evaluate": "evaluate",
        "compare": "compare",
        "explain": "explain",
        "features": "features",
        "svm": "features",
        "serve": "serve",
        "token": "token",
    }
)
"""The commands in the order of the help, and the module each is a function of."""

GROUPS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "film": MappingProxyType(
            {
                "index": "film_index",
                "query": "film_query",
                "extract": "film_extract",
                "annotate": "film_annotate",
                "timeline": "film_timeline",
                "report": "film_report",
            }
        )
    }
)
"""The commands that have commands of their own, each a function of the module named here."""

_HELP = {"film": "A film as an index: made once, then asked in milliseconds."}

_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


class _Commands(TyperGroup):
    """Imports a command's module when the command is asked for: what `mien analyze` does not need, it does not load."""

    modules: Mapping[str, str] = COMMANDS

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # click names it
        return list(self.modules)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.modules:
            return super().get_command(ctx, cmd_name)
        if cmd_name not in self.commands:
            within = GROUPS.get(cmd_name) if self.modules is COMMANDS else None
            self.commands[cmd_name] = _group(cmd_name, within) if within else _command(cmd_name, self.modules[cmd_name])
        return self.commands[cmd_name]


def _command(name: str, module: str) -> Any:
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alone.command(name, context_settings=_SETTINGS)(getattr(import_module(f".{module}", __package__), name))
    return get_command(alone)


def _group(name: str, modules: Mapping[str, str]) -> Any:
    kind = type("_Group", (_Commands,), {"modules": modules})
    group = typer.Typer(
        name=name,
        cls=kind,
        help=_HELP[name],
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings=_SETTINGS,
    )
    group.callback()(lambda: None)
    return get_command(group)


app = typer.Typer(
    name="mien",
    cls=_Commands,
    help="Reads facial expressions in pictures, films and live video, with evidence for every face and frame.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=_SETTINGS,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mien {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and end."
    ),
) -> None:
    pass


def run() -> None:
    """Run the command line."""
    app()
