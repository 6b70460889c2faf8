"""Kinds of arguments and options of the command line, and those that several commands share."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

OfData = dict[str, Any] | None  # what `of_data` returns; its options stand in this one's place
Data = Annotated[str, typer.Argument(metavar="DATA", help="A file, or a data set's name.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The folder that fit wrote.")]
OwnStory = Annotated[
    str | None, typer.Option("--story", help="The file of a run of your own story.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
Names = Annotated[str, typer.Option(metavar="A,B,...", help="See `pgm-expr zoo`.")]
Layer = Annotated[str | None, typer.Option(help="Where the counts are: X, raw or a layer.")]
Labels = Annotated[str | None, typer.Option(help="Column of obs with labels.")]
Batches = Annotated[str | None, typer.Option(help="Column of obs with batches.")]
Categorical = Annotated[
    list[str] | None, typer.Option(help="Categorical covariate; may be repeated.")
]
Continuous = Annotated[
    list[str] | None, typer.Option(help="Continuous covariate; may be repeated.")
]
Unlabeled = Annotated[str | None, typer.Option(help="Label meaning none.")]
Perturbations = Annotated[
    str | None, typer.Option(help="Column of obs with perturbations, A+B for two at once.")
]
Control = Annotated[str | None, typer.Option(help="Perturbation meaning none.")]
Target = Annotated[str | None, typer.Option(help="Column of obs with a number to predict.")]
GeneSets = Annotated[
    str | None, typer.Option(metavar="FILE", help="A .gmt file of named gene sets.")
]
SplitKey = Annotated[
    str | None, typer.Option(help="Column of obs whose groups stay whole in the split.")
]
MinCells = Annotated[int, typer.Option(min=0, help="Keep genes seen in so many cells.")]
TopGenes = Annotated[
    int | None, typer.Option(min=1, help="Keep so many highly variable genes (seurat_v3).")
]
TYPED = {  # arguments of the API as options
    "categorical_covariate_keys": "--categorical",
    "continuous_covariate_keys": "--continuous",
    **{
        name: f"--{name.replace('_', '-')}"
        for name in (
            "labels_key batch_key unlabeled_category perturbation_key target_key gene_sets "
            "split_key min_cells n_top_genes"
        ).split()
    },
}
Conditions = Annotated[
    list[str] | None,
    typer.Option("--condition", metavar="COLUMN=LEVEL", help="Set it for all cells; repeatable."),
]
Options = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Option of story or training."),
]


def of_data(
    layer: Layer = None,
    labels_key: Labels = None,
    batch_key: Batches = None,
    categorical: Categorical = None,
    continuous: Continuous = None,
    unlabeled_category: Unlabeled = None,
    perturbation_key: Perturbations = None,
    control: Control = None,
    target_key: Target = None,
    gene_sets: GeneSets = None,
    split_key: SplitKey = None,
    min_cells: MinCells = 0,
    n_top_genes: TopGenes = None,
) -> dict[str, Any]:
    """What a command is told of its data, as `api.fit` and `api.compare` take it."""
    return {
        "layer": None if layer == "X" else layer,
        "labels_key": labels_key,
        "batch_key": batch_key,
        "categorical_covariate_keys": categorical or (),
        "continuous_covariate_keys": continuous or (),
        "unlabeled_category": unlabeled_category,
        "perturbation_key": perturbation_key,
        "control": control,
        "target_key": target_key,
        "gene_sets": gene_sets,
        "split_key": split_key,
        "min_cells": min_cells,
        "n_top_genes": n_top_genes,
    }


def list_of(names: str) -> list[str]:
    """`nb,zinb` as ["nb", "zinb"]."""
    return [name.strip() for name in names.split(",") if name.strip()]


def numbers_of(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in list_of(text)]
    except ValueError:
        raise ValueError(f"{option} {text}: expected numbers, such as {option} 0.5,1,4.") from None


def options_of(pairs: list[str]) -> dict[str, Any]:
    """`["latent=20"]` as `{"latent": 20}`; numbers where they read as such."""
    return {name: _value(text) for name, text in _pairs("--set", pairs, "latent=20").items()}


def levels_of(pairs: list[str]) -> dict[str, str]:
    """`["dose=80"]` as `{"dose": "80"}`: what was fitted says whether that is a number."""
    return _pairs("--condition", pairs, "batch=b1")


def _pairs(option: str, pairs: list[str], example: str) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    for pair, (name, _, text) in zip(pairs, split, strict=True):
        if not (name and text):
            raise ValueError(f"{option} {pair}: expected NAME=VALUE, such as {option} {example}.")
    found = {name: text for name, _, text in split}
    if len(found) < len(pairs):
        raise ValueError(f"{option} {' '.join(pairs)}: a name is given twice. Name each once.")
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


def as_typed(message: str) -> str:
    """A message of the API with its arguments as the command line names them."""
    return re.sub(r"(?<![\w'/-])(\w+_\w+)\b", lambda found: TYPED.get(found[1], found[1]), message)


def tells_of_data(command: Callable[..., None]) -> Callable[..., None]:
    """The options of `of_data` in the place of the command's parameter `told`."""
    options = inspect.signature(of_data, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True).parameters

    @functools.wraps(command)
    def told(**given: Any) -> None:
        told = of_data(**{name: given.pop(name) for name in options})
        command(**given, told=told)

    listed = [[p] if name != "told" else options.values() for name, p in own.items()]
    parameters = [p for each in listed for p in each]
    told.__signature__ = inspect.Signature(parameters)
    told.__annotations__ = {p.name: p.annotation for p in parameters}
    return told
