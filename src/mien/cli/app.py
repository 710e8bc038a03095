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

__all__ = ["COMMANDS", "app", "run"]

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "analyze": "analyze",
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
    }
)
"""The commands in the order of the help, and the module each is a function of."""

_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


class _Commands(TyperGroup):
    """Imports a command's module when the command is asked for: what `mien analyze` does not need, it does not load."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # click names it
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        if cmd_name not in self.commands:
            alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
            function = getattr(import_module(f".{COMMANDS[cmd_name]}", __package__), cmd_name)
            alone.command(cmd_name, context_settings=_SETTINGS)(function)
            self.commands[cmd_name] = get_command(alone)
        return self.commands[cmd_name]


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
