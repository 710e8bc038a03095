"""The command `mien`: all commands, one file a noun."""

from __future__ import annotations

import typer

from .. import __version__
from . import analyze, demo, evaluate, models, train

__all__ = ["app", "run"]

app = typer.Typer(
    name="mien",
    help="Reads facial expressions in pictures, films and live video, with evidence for every face and frame.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
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


app.command("analyze")(analyze.analyze)
app.command("demo")(demo.demo)
app.command("models")(models.models)
app.command("evaluate")(evaluate.evaluate)
app.command("train")(train.train)
app.command("export")(train.export)


def run() -> None:
    """Run the command line."""
    app()
