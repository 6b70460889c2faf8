"""Arguments and options that several commands share, and how their text is read."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from .. import api

out = Console(highlight=False, soft_wrap=True)
Data = Annotated[str, typer.Argument(metavar="DATA", help="A file, or the name of a data set.")]
OtherData = Annotated[
    str | None,
    typer.Argument(metavar="[DATA]", help="Data to use; by default, held-out cells of the fit."),
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The folder that fit wrote.")]
RunOut = Annotated[Path, typer.Option("--out", help="Folder of the new run.")]
H5adOut = Annotated[Path, typer.Option("--out", help="An .h5ad file to write.")]
JsonOut = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")]
StoryFile = Annotated[
    str | None, typer.Option("--story", help="The file of a user-defined story of the run.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
Names = Annotated[str, typer.Option(metavar="A,B,...", help="Names from `pgm-expr zoo`.")]
Numbers = Annotated[str, typer.Option(metavar="A,B,...", help="Weights of the KL in training.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of initial weights, noise and draws.")]
SplitSeed = Annotated[int, typer.Option(min=0, help="Seed of the train, validation, test split.")]
Epochs = Annotated[
    int | None,
    typer.Option(min=0, help="Maximum number; 0 leaves the story untrained."),
]
Overwrite = Annotated[bool, typer.Option(help="Replace earlier results in the folder.")]
Number = Annotated[int, typer.Option("--n", min=1, help="Number of cells.")]
Conditions = Annotated[
    list[str] | None,
    typer.Option("--condition", metavar="COLUMN=LEVEL", help="Set for all cells. Repeatable."),
]
Options = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Option of story or training. Repeatable."),
]
Columns = dict[str, Any] | None  # of a command under `reads_data`: the arguments of its data

SHORT = {  # options that are shorter than the arguments of the API
    "categorical_covariate_keys": "--categorical",
    "continuous_covariate_keys": "--continuous",
}
GENES: dict[str, tuple[Any, Any]] = {  # type and default of the arguments beside obs columns
    "layer": (
        Annotated[str | None, typer.Option(help="Where the counts are: X, raw or a layer.")],
        None,
    ),
    "gene_sets": (
        Annotated[
            str | None, typer.Option(metavar="FILE", help="A .gmt file of named gene sets.")
        ],
        None,
    ),
    "min_cells": (
        Annotated[int, typer.Option(min=0, help="Drop genes detected in fewer cells than this.")],
        0,
    ),
    "n_top_genes": (
        Annotated[
            int | None,
            typer.Option(min=1, help="Keep this many highly variable genes (seurat_v3)."),
        ],
        None,
    ),
}


def option_name(argument: str) -> str:
    """The option of the command line for an argument of the API."""
    return SHORT.get(argument, f"--{argument.replace('_', '-')}")


def _data_parameters() -> dict[str, inspect.Parameter]:
    """A parameter for every argument that names a column of obs, then those about genes."""
    kinds = {}
    for name, help_text in api.ARGUMENTS.items():
        several = name.endswith("_keys")
        kind = list[str] | None if several else str | None
        text = f"{help_text} Repeatable." if several else help_text
        kinds[name] = (Annotated[kind, typer.Option(option_name(name), help=text)], None)
    layer = {"layer": GENES["layer"]}
    return {
        name: inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind
        )
        for name, (kind, default) in (layer | kinds | GENES).items()
    }


def reads_data(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameter `columns` by the options for columns of obs and genes."""
    options = _data_parameters()
    own = inspect.signature(command, eval_str=True).parameters

    @functools.wraps(command)
    def wrapped(**given: Any) -> None:
        columns = {name: given.pop(name) for name in options}
        columns["layer"] = None if columns["layer"] == "X" else columns["layer"]
        command(**given, columns=columns)

    listed = [[p] if name != "columns" else options.values() for name, p in own.items()]
    parameters = [p.replace(kind=p.KEYWORD_ONLY) for each in listed for p in each]
    vars(wrapped)["__signature__"] = inspect.Signature(parameters)
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapped


def check_json(path: Path | None) -> None:
    """ValueError where figures cannot be written there, before any work."""
    if path is not None and not path.resolve().parent.is_dir():
        raise ValueError(f"--json {path}: no folder {path.parent}. Make it first.")


def given(**values: Any) -> dict[str, Any]:
    """The values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def list_of(names: str) -> list[str]:
    """`nb,zinb` as ["nb", "zinb"]."""
    return [name.strip() for name in names.split(",") if name.strip()]


def numbers_of(option: str, text: str) -> list[float]:
    """`0.5,1` as [0.5, 1.0]."""
    try:
        return [float(part) for part in list_of(text)]
    except ValueError:
        raise ValueError(f"{option} {text}: expected numbers, such as {option} 0.5,1,4.") from None


def options_of(pairs: list[str] | None) -> dict[str, Any]:
    """`["latent=20"]` as `{"latent": 20}`; numbers where they read as such."""
    return {name: _value(text) for name, text in _pairs("--set", pairs, "latent=20").items()}


def levels_of(pairs: list[str] | None) -> dict[str, str]:
    """`["dose=80"]` as `{"dose": "80"}`; the fit decides whether that is a number."""
    return _pairs("--condition", pairs, "batch=b1")


def with_levels(condition: Mapping[str, str]) -> str:
    """` with dose=80`, to end a sentence; empty without a condition."""
    return f" with {', '.join(f'{k}={v}' for k, v in condition.items())}" if condition else ""


def support_line(notes: Mapping[str, Any]) -> str:
    """One sentence on the observed cells of a condition, from what a verb wrote to uns."""
    found = notes.get("support")
    if not found:
        return ""
    verdict = f"{found['verdict']}, " if "verdict" in found else ""
    near = f", near {found['share']:.0%} of {found['targets']} cells" if "share" in found else ""
    number = found["training_cells"]
    return f" Support of {found['condition']}: {verdict}{number} training cells{near}."


def _pairs(option: str, pairs: list[str] | None, example: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs or []:
        name, _, text = pair.partition("=")
        if not (name and text):
            raise ValueError(f"{option} {pair}: expected NAME=VALUE, such as {option} {example}.")
        if name in found:
            raise ValueError(f"{option} {pair}: {name} is given twice. Name each once.")
        found[name] = text
    return found


def _value(text: str) -> bool | int | float | str:
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def in_options(message: str) -> str:
    """A message of the API with its arguments written as options of the command line."""
    known = [*api.ARGUMENTS, *GENES]
    return re.sub(
        r"(?<![\w'/-])(\w+_\w+)\b",
        lambda found: option_name(found[1]) if found[1] in known else found[1],
        message,
    )
