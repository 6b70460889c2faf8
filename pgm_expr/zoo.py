"""The zoo: every story, part and objective by name, and the only place a pair is tied."""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from .guides import VAEGuide
from .inference.objective import IWAE, MeanField, Objective, Trace
from .models import VAE
from .parts import (
    DiagonalNormal,
    NegativeBinomial,
    PoissonCounts,
    StandardNormal,
    ZeroInflatedNB,
)


@dataclass(frozen=True)
class Story:
    """A generative story: a Pyro model, the guide that infers it, and its usual objective."""

    model: Callable[..., nn.Module]
    guide: Callable[..., nn.Module]
    objective: Callable[..., Objective] = MeanField


STORIES = {"vae": Story(model=VAE, guide=VAEGuide, objective=MeanField)}

PARTS: dict[str, dict[str, Callable[..., nn.Module]]] = {
    "prior": {"normal": StandardNormal},
    "likelihood": {"nb": NegativeBinomial, "zinb": ZeroInflatedNB, "poisson": PoissonCounts},
    "posterior": {"normal": DiagonalNormal},
}

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "trace": Trace,
    "mean-field": MeanField,
    "iwae": IWAE,  # iwae-10: with 10 particles
}

# What does not go together, and why. Whoever refuses it says the same.
REFUSED = {("iwae", "free_bits"): "importance weights hold no average KL that could be floored"}

FROM_DATA = ("genes", "batches", "conditions", "labels", "gene_sets", "perturbations", "average")


def story(name: str) -> Story:
    """The story of that name; ValueError with near matches otherwise."""
    return _pick("story", name, STORIES)


def objective(name: str) -> Callable[..., Objective]:
    """`trace`, `mean-field` or `iwae-10`: called with (model, guide, cells=N)."""
    kind, particles = re.fullmatch(r"(.*?)(?:-([1-9]\d*))?", name, re.DOTALL).groups()
    made = _pick("objective", kind, OBJECTIVES)
    return partial(made, particles=int(particles)) if particles else made


def build(
    story: Story, dims: Mapping[str, int | Tensor], **options: object
) -> tuple[nn.Module, nn.Module]:
    """Model and guide of a story: `dims` (see `FROM_DATA`) from the data, `options` from the user.

    An option named like an edge (`prior`, `likelihood`, `posterior`) is a part: a name of `PARTS`
    or a class; its constructor is filled from dims and options too. Raises ValueError for
    unknown options, options of the wrong type, and a part that is not in the catalogue.
    """
    check_options(story, options)
    sizes = defaults(story) | dims | options
    parts = {n: _part(n, v, sizes) for n, v in options.items() if n in PARTS and v is not None}
    return tuple(_call(half, dims | options | parts) for half in (story.model, story.guide))


def defaults(story: Story) -> dict[str, Any]:
    """The options of a story with their default values; what the data fill is left out."""
    both = [*_parameters(story.model).items(), *_parameters(story.guide).items()]
    return {name: p.default for name, p in both if name not in FROM_DATA}


def check_options(story: Story, options: Mapping[str, object]) -> None:
    """ValueError for an option the story does not have, or one of the wrong kind."""
    known = defaults(story)
    for name, value in options.items():
        _check_option(name, value, known)


def part_name(edge: str, value: object) -> str:
    """The catalogue's name of a part given by name or class; ValueError for a foreign one."""
    for name, made in PARTS[edge].items():
        if value is made:
            return name
    _pick(edge, str(value), PARTS[edge])
    return str(value)


def _part(edge: str, value: object, sizes: Mapping[str, object]) -> nn.Module:
    return _call(PARTS[edge][part_name(edge, value)], sizes)


def _call(made: Callable, values: Mapping[str, object]) -> nn.Module:
    return made(**{name: values[name] for name in _parameters(made) if name in values})


def _parameters(made: Callable) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(made).parameters


def _check_option(name: str, value: object, known: Mapping[str, object]) -> None:
    _pick("option", name, known)
    default = known[name]
    if isinstance(default, (int, float)):
        kind = "a whole number from 1" if isinstance(default, int) else "a number from 0"
        right = type(value) in ({int} if isinstance(default, int) else {int, float})
        if not right or not math.isfinite(value) or value < isinstance(default, int):
            raise ValueError(f"option {name} must be {kind}: got {value!r}, default {default}.")


def _pick(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    if name in table:
        return table[name]
    near = difflib.get_close_matches(str(name), table, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ValueError(f"unknown {kind} '{name}'.{hint} Known: {', '.join(table)}.")
