"""The command `mien`: all commands, one file a noun."""

from __future__ import annotations

import typer

from .. import __version__
from . import analyze, compare, data, demo, evaluate, explain, export, features, models, runs, sweep, train

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


for _command in (
    analyze.analyze,
    demo.demo,
    models.models,
    data.data,
    train.train,
    runs.runs,
    sweep.sweep,
    export.export,
    evaluate.evaluate,
    compare.compare,
    explain.explain,
    features.features,
    features.svm,
):
    app.command(_command.__name__)(_command)


def run() -> None:
    """Run the command line."""
    app()
