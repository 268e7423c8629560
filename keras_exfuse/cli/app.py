"""The commands together, and what becomes of errors."""

import os
from typing import Annotated

import typer
from typer.core import TyperGroup

from keras_exfuse._constants import __version__
from keras_exfuse.cli import (
    average,
    common,
    data,
    demo,
    evaluate,
    export,
    predict,
    review,
    start,
    submission,
    train,
)

# Set to 1, it shows the traceback of what would otherwise be one line.
DEBUG_VARIABLE = "KERAS_EXFUSE_DEBUG"


class _Commands(TyperGroup):
    """Says that a command was interrupted, and exits as the shell expects it: versions of typer differ."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interruption:
            common.console_error.print(f"\n{str(interruption) or 'Interrupted.'}", markup=False)
            raise typer.Exit(getattr(interruption, "exit_code", 130)) from None


app = typer.Typer(
    name="keras-exfuse",
    cls=_Commands,
    help="ExFuse semantic segmentation: train, evaluate, predict, export.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = (
    train.train,
    evaluate.evaluate,
    predict.predict,
    submission.submission,
    export.export,
    average.average,
    demo.demo,
)
for command in COMMANDS:
    app.command()(command)
data.app.command()(review.review)
app.add_typer(data.app, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """ExFuse semantic segmentation: train, evaluate, predict, export."""


def run_app(arguments: list[str]) -> int:
    """Run a command; a user's mistake becomes one line and the exit code 2.

    Args:
        arguments: What follows `keras-exfuse`.

    Returns:
        The exit code.
    """
    try:
        with common.printed_notices():
            app(arguments, prog_name="keras-exfuse")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except ImportError as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        common.print_error_text(start.missing_backend(error) or str(error))
        return 1
    except (ValueError, OSError) as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        common.print_error(error)
        return 2
    return 0
