"""The command line: parse, call the API, print. Errors are one line on stderr, exit code 2."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from .. import api
from . import decide, draw, fit, judge
from .options import in_options

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Generative models (stories) of gene expression in Pyro: fit, evaluate, draw, predict.",
)
for part in (fit, judge, decide, draw):
    app.add_typer(part.app)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")] = False,
) -> None:
    """Every command takes --debug; `main` reads it."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line; the console script `pgm-expr`. Always ends in SystemExit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    warnings.showwarning = _show_warning
    try:
        sys.exit(app(arguments, standalone_mode=False) or 0)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted. Run the same command again; fit and compare resume.", 130)
    except api.PosteriorCollapse as collapse:
        _fail(str(collapse), 1)
    except Exception as error:
        if debug:
            raise
        _fail(_sentence(error), 2)


def _fail(message: str, code: int) -> NoReturn:
    if message:  # empty where the help was printed instead
        err.print(f"[bold red]error:[/] {_plain(message)}")
    sys.exit(code)


def _sentence(error: Exception) -> str:
    """One line on an error; an unforeseen one says so."""
    if hasattr(error, "format_message"):
        return error.format_message()
    if isinstance(error, (ValueError, OSError, FloatingPointError)):
        return in_options(str(error))
    return f"unexpected {type(error).__name__}: {error} (--debug shows where)"


def _plain(message: str) -> str:
    return " ".join(message.split()).replace("[", r"\[")


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    err.print(f"[yellow]warning:[/] {_plain(in_options(str(message)))}")
