"""The only place a pair is tied: model and guide of a story, from the data's sizes and options."""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..inference import Objective
from ..inference.source_lines import of_error, of_method, prefix
from ..inference.tracing import Batch
from .catalogue import PARTS, Story, part_name, pick

FROM_DATA = (
    "genes",
    "batches",
    "conditions",
    "labels",
    "gene_sets",
    "perturbations",
    "average",  # (G,) composition of the average training cell
    "mean",  # (G,) mean of the training cells
    "examples",  # (M, G) counts of some training cells
    "log_library",  # (2,) mean and standard deviation of log library over the training cells
)
GIVEN_BY = {  # the argument of `fit` by which the data give it
    "batches": "batch_key",
    "conditions": "categorical_covariate_keys or continuous_covariate_keys",
    "labels": "labels_key",
    "gene_sets": "gene_sets",
    "perturbations": "perturbation_key",
}
TOLD_BY = {  # and an entry of a minibatch
    "label": "labels_key",
    "batch": "batch_key",
    "condition": "categorical_covariate_keys or continuous_covariate_keys",
    "perturbation": "perturbation_key",
    "target": "target_key",
}
HALVES = ("model", "guide")
COUNTS = "counts given library"  # the measure of most likelihoods
EMPTY = inspect.Parameter.empty


def build(
    story: Story, dims: Mapping[str, int | Tensor | None], **options: object
) -> tuple[nn.Module, nn.Module]:
    """Model and guide of a story: `dims` (see `FROM_DATA`) from the data, `options` from the user.

    An option named like an edge (`prior`, `likelihood`, `posterior`, `link`) is a part: a name of
    `PARTS` or a class; its constructor is filled from dims and options too. A half whose
    constructor names the other half, or a part that does, is built after it. Raises ValueError
    for unknown options, options of the wrong type, and a part that is not in the catalogue.
    """
    check_options(story, options)
    chosen = _chosen(options)
    values = defaults(story) | dims | options
    values = {name: value for name, value in values.items() if name not in PARTS}
    borrows = [edge for edge, part in chosen.items() if "guide" in _parameters(part)]
    if borrows and "model" in _parameters(story.guide):
        raise ValueError(
            f"{borrows[0]} '{options[borrows[0]]}' borrows the guide, and this guide borrows the "
            "model: neither can be built first. Choose another part."
        )
    for half in reversed(HALVES) if borrows else HALVES:
        values[half] = _make(getattr(story, half), values, chosen)
    return values["model"], values["guide"]


def defaults(story: Story) -> dict[str, Any]:
    """The options of a story with their default values; what the data fill is left out."""
    return {n: p.default for half in HALVES for n, p in _options_of(getattr(story, half)).items()}


def takes(story: Story, options: Mapping[str, object]) -> str:
    """What a story with these options is about: raw "counts", or "values" on a log scale.

    It follows from the `measure` of the likelihood, or of a model without such a part.
    """
    part = _chosen(options).get("likelihood", story.model)
    return "values" if getattr(part, "measure", COUNTS) == "values" else "counts"


def measure(model: nn.Module) -> str:
    """What log p(x) is a probability of: only rows of one measure may be compared.

    The model says so itself, or its likelihood does; "unknown" where neither does.
    """
    likelihood = getattr(model, "likelihood", None)
    return getattr(model, "measure", getattr(likelihood, "measure", "unknown"))


def check_options(story: Story, options: Mapping[str, object]) -> None:
    """ValueError for an option that neither story nor chosen parts have, or of a wrong kind."""
    known = known_options(story, options)
    for name, value in options.items():
        _check_option(name, value, known)
    _check_call(story, options)


def check_told(story: Story, told: Collection[str]) -> None:
    """ValueError where a half is called with what the data do not tell of cells."""
    for half in (story.model, story.guide):
        forward = _parameters(getattr(half, "forward", half)).values()
        for name in (p.name for p in forward if _needed(p) and p.name in TOLD_BY):
            if name not in told:
                at = "" if _ours(half) else prefix(of_method(half))
                raise ValueError(
                    f"{at}{half.__name__} needs the {name} of cells, which the data do not give. "
                    f"Pass {TOLD_BY[name]} when fitting."
                )


def check_unit(story: Story, objective: Objective, batch: Batch) -> None:
    """ValueError where the unit of a story and the latents of its model disagree."""
    with torch.no_grad(), torch.random.fork_rng():
        latents = [site["name"] for _, site in objective.draw(batch).latents]
    name, line = story.model.__name__, "" if _ours(story.model) else prefix(of_method(story.model))
    if latents and story.unit == "profiles":
        raise ValueError(
            f"{line}site '{latents[0]}' of {name} is a latent of every row, and the unit of its "
            "Story is profiles. Write unit='cells', or take it out of the plate."
        )
    if not latents and story.unit == "cells":
        raise ValueError(
            f"{line}{name} has no latent state of cells. Write unit='profiles' in its Story, or "
            "give it one."
        )


def known_options(story: Story, options: Mapping[str, object]) -> dict[str, Any]:
    """What can be set of a story with the parts chosen in `options`, with the default values."""
    known = defaults(story)
    for part in _chosen(options).values():
        known |= {n: p.default for n, p in _options_of(part).items() if n not in known}
    return known


def _check_call(story: Story, options: Mapping[str, object]) -> None:
    """ValueError where the likelihood is called with more than the story can know."""
    likelihood = _chosen(options).get("likelihood")
    if likelihood is None:
        return
    _, _, _, *more = inspect.signature(likelihood.forward).parameters  # self, eta, library
    missing = [name for name in more if name not in _handed(story.model)]
    if missing:
        raise ValueError(
            f"likelihood '{options['likelihood']}' needs {missing[0]}, which "
            f"{story.model.__name__}.forward does not hand it. In a story of your own, name it "
            f"there and call self.likelihood(eta, library, {missing[0]})."
        )
    if hasattr(story.model, "measure") and likelihood.measure != COUNTS:
        raise ValueError(
            f"likelihood '{options['likelihood']}' is about {likelihood.measure}, "
            f"{story.model.__name__} about {story.model.measure}. Take the story vae for it."
        )


def _handed(model: Callable) -> set[str]:
    """What a model's forward calls its likelihood with."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(model.forward)))
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    made = (call for call in calls if ast.unparse(call.func) == "self.likelihood")
    return {ast.unparse(argument) for call in made for argument in call.args}


def _chosen(options: Mapping[str, object]) -> dict[str, Callable[..., nn.Module]]:
    """The parts asked for, by edge."""
    given = {edge: options[edge] for edge in PARTS if options.get(edge) is not None}
    return {edge: PARTS[edge][part_name(edge, value)] for edge, value in given.items()}


def _make(made: Callable, values: dict[str, object], chosen: Mapping[str, Callable]) -> nn.Module:
    """Call a constructor with what it names; a part is made where it is first named."""
    names = _parameters(made)
    for edge in names:
        if edge in chosen and edge not in values:
            values[edge] = _make(chosen[edge], values, chosen)
    return _call(made, {n: values[n] for n in names if values.get(n, EMPTY) is not EMPTY})


def _call(made: Callable, given: Mapping[str, object]) -> nn.Module:
    """Call a constructor; ValueError with its file and line where that is impossible."""
    name, start = getattr(made, "__name__", repr(made)), of_method(made, "__init__")
    lacking = [p.name for p in _parameters(made).values() if _needed(p) and p.name not in given]
    if lacking:
        wanted = ", ".join(GIVEN_BY.get(n, n) for n in lacking)
        own = "" if _ours(made) else ", or give it a default"
        raise ValueError(
            f"{'' if _ours(made) else prefix(start)}{name} needs "
            f"{', '.join(lacking).replace('_', ' ')}, which the data do not give. Pass {wanted} "
            f"when fitting{own}."
        )
    try:
        return made(**given)
    except ValueError:
        raise  # it says itself what is wrong
    except Exception as error:
        said, line = " ".join(str(error).split()), of_error(error, made) or start
        what = f"{name} cannot be made: {type(error).__name__}: {said}"
        raise ValueError(prefix(line) + what) from error


def _ours(made: Callable) -> bool:
    return getattr(made, "__module__", "").startswith(f"{__package__.partition('.')[0]}.")


def _needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is EMPTY and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )


def _options_of(made: Callable) -> dict[str, inspect.Parameter]:
    known = FROM_DATA + HALVES
    return {n: p for n, p in _parameters(made).items() if n not in known}


def _parameters(made: Callable) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(made).parameters


def _check_option(name: str, value: object, known: Mapping[str, object]) -> None:
    pick("option", name, known)
    default = known[name]
    if isinstance(default, bool) and not isinstance(value, bool):
        raise ValueError(f"option {name} must be True or False: got {value!r}.")
    if isinstance(default, (int, float)) and not isinstance(default, bool):
        _check_number(name, value, default)


def _check_number(name: str, value: object, default: float) -> None:
    kind = "a whole number from 1" if isinstance(default, int) else "a number from 0"
    right = type(value) in ({int} if isinstance(default, int) else {int, float})
    if not right or not math.isfinite(value) or value < isinstance(default, int):
        raise ValueError(f"option {name} must be {kind}: got {value!r}, default {default}.")
