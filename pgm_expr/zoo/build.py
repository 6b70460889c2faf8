"""Build the model and guide of a story from the sizes of the data and options."""

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
COVARIATES = "categorical_covariate_keys or continuous_covariate_keys"
REQUIRES: Mapping[str, str] = {  # the argument of `fit` that provides a size or an entry
    "batches": "batch_key",
    "batch": "batch_key",
    "conditions": COVARIATES,
    "condition": COVARIATES,
    "labels": "labels_key",
    "label": "labels_key",
    "perturbations": "perturbation_key",
    "perturbation": "perturbation_key",
    "target": "target_key",
}
HALVES = ("model", "guide")
COUNTS = "counts given library"  # the measure of most likelihoods
EMPTY = inspect.Parameter.empty


def build(
    story: Story,
    dims: Mapping[str, int | Tensor | None],
    *,
    requires: Mapping[str, str] = REQUIRES,
    **options: object,
) -> tuple[nn.Module, nn.Module]:
    """Model and guide of a story.

    The one whose constructor, or that of its parts, takes the other as argument is built second.

    Parameters
    ----------
    story
        A story of the zoo, or a user-defined one.
    dims
        Constructor arguments that the data provide, by name; see `FROM_DATA`.
    requires
        The argument of `fit` that provides a constructor argument, for error messages.
    options
        All other constructor arguments. `prior`, `likelihood`, `posterior` and `link` take a
        part: a name of `PARTS` or a class, whose constructor arguments come from `dims` and
        `options` too.

    Returns
    -------
    model, guide
        The pair, untrained.

    Raises
    ------
    ValueError
        For an unknown option, one of the wrong type, a part that is not in the catalogue, and an
        argument that neither data nor options provide.

    Examples
    --------
    >>> from pgm_expr import zoo
    >>> model, guide = zoo.build(zoo.story("vae"), {"genes": 12}, latent=3, likelihood="zinb")
    >>> type(model.likelihood).__name__, guide.posterior.loc.out_features
    ('ZeroInflatedNB', 3)
    """
    check_options(story, options)
    chosen = _parts_of(options)
    values = {**defaults(story), **dims, **options}
    values = {name: value for name, value in values.items() if name not in PARTS}
    borrows = [edge for edge, part in chosen.items() if "guide" in _parameters(part)]
    if borrows and "model" in _parameters(story.guide):
        raise ValueError(
            f"{borrows[0]} '{options[borrows[0]]}' borrows the guide, and this guide borrows the "
            "model: neither can be built first. Choose another part."
        )
    for half in reversed(HALVES) if borrows else HALVES:
        values[half] = _make(getattr(story, half), values, chosen, requires)
    return values["model"], values["guide"]


def defaults(story: Story) -> dict[str, Any]:
    """Options of a story by name, with their default values.

    Parameters
    ----------
    story
        Any story. Constructor arguments that the data provide are left out.

    Returns
    -------
    dict
        Options of both halves.

    Examples
    --------
    >>> from pgm_expr import zoo
    >>> zoo.defaults(zoo.story("linear"))["latent"]
    10
    """
    return {n: p.default for half in HALVES for n, p in _options_of(getattr(story, half)).items()}


def takes(story: Story, options: Mapping[str, object]) -> str:
    """The kind of data that a story with these options models.

    Parameters
    ----------
    story, options
        As for `build`. The kind follows from the `measure` of the likelihood, or of a model
        without such a part.

    Returns
    -------
    str
        "counts" for raw counts, "values" for values on a log scale.

    Examples
    --------
    >>> from pgm_expr import zoo
    >>> zoo.takes(zoo.story("vae"), {}), zoo.takes(zoo.story("vae"), {"likelihood": "gaussian"})
    ('counts', 'values')
    """
    part = _parts_of(options).get("likelihood", story.model)
    return "values" if getattr(part, "measure", COUNTS) == "values" else "counts"


def measure(model: nn.Module) -> str:
    """What log p(x) refers to: bounds are comparable only between equal measures.

    Parameters
    ----------
    model
        A model with an attribute `measure`, or a likelihood with one.

    Returns
    -------
    str
        The measure, "unknown" where neither states it.

    Examples
    --------
    >>> from pgm_expr.models import VAE
    >>> measure(VAE(genes=5))
    'counts given library'
    """
    likelihood = getattr(model, "likelihood", None)
    return getattr(model, "measure", getattr(likelihood, "measure", "unknown"))


def check_options(story: Story, options: Mapping[str, object]) -> None:
    """ValueError for an option that neither story nor chosen parts have, or of the wrong type."""
    known = known_options(story, options)
    for name, value in options.items():
        _check_option(name, value, known)
    _check_call(story, options)


def check_entries(
    story: Story, entries: Collection[str], requires: Mapping[str, str] = REQUIRES
) -> None:
    """Check that minibatches hold what a story is conditioned on.

    Parameters
    ----------
    story
        Any story.
    entries
        Names of the entries of minibatches.
    requires
        The argument of `fit` that provides an entry.

    Raises
    ------
    ValueError
        If model or guide requires an entry that the minibatches lack.

    Examples
    --------
    >>> from pgm_expr import zoo
    >>> zoo.check_entries(zoo.story("regress"), ["x", "library"])
    Traceback (most recent call last):
    ValueError: Regress requires `target`; pass target_key to fit().
    """
    for half in (story.model, story.guide):
        forward = _parameters(getattr(half, "forward", half)).values()
        lacking = [p.name for p in forward if _needed(p) and p.name in requires]
        lacking = [name for name in lacking if name not in entries]
        if lacking:
            raise ValueError(f"{_place(half, 'forward')}{_requires(half, lacking, requires)}.")


def check_unit(story: Story, objective: Objective, batch: Batch) -> None:
    """ValueError where the unit of a story and the latents of its model disagree."""
    with torch.no_grad(), torch.random.fork_rng():
        latents = [site["name"] for _, site in objective.draw(batch).latents]
    name, place = story.model.__name__, _place(story.model, "forward")
    if latents and story.unit == "profiles":
        raise ValueError(
            f"{place}site '{latents[0]}' of {name} is a latent of every row, but its Story "
            "has unit='profiles'. Write unit='cells', or take the site out of the plate."
        )
    if not latents and story.unit == "cells":
        raise ValueError(
            f"{place}{name} has no latent state of cells. Write unit='profiles' in its Story, or "
            "add a latent site."
        )


def known_options(story: Story, options: Mapping[str, object]) -> dict[str, Any]:
    """Options of a story and of the parts chosen in `options`, with their default values."""
    known = defaults(story)
    for part in _parts_of(options).values():
        known |= {n: p.default for n, p in _options_of(part).items() if n not in known}
    return known


def _check_call(story: Story, options: Mapping[str, object]) -> None:
    """ValueError where the likelihood needs arguments that the story does not pass to it."""
    likelihood = _parts_of(options).get("likelihood")
    if likelihood is None:
        return
    _, _, _, *more = inspect.signature(likelihood.forward).parameters  # self, eta, library
    missing = [name for name in more if name not in _passed(story.model)]
    if missing:
        raise ValueError(
            f"likelihood '{options['likelihood']}' needs {missing[0]}, which "
            f"{story.model.__name__}.forward does not pass to it. In a user-defined story, name "
            f"it there and call self.likelihood(eta, library, {missing[0]})."
        )
    ours, theirs = getattr(story.model, "measure", COUNTS), getattr(likelihood, "measure", COUNTS)
    if hasattr(story.model, "measure") and theirs != COUNTS:
        raise ValueError(
            f"likelihood '{options['likelihood']}' is defined for {theirs}, "
            f"{story.model.__name__} for {ours}. Use it with the story vae."
        )


def _passed(model: Callable) -> set[str]:
    """Arguments with which a model's forward calls its likelihood."""
    source = inspect.getsource(getattr(model, "forward", model))
    calls = (n for n in ast.walk(ast.parse(textwrap.dedent(source))) if isinstance(n, ast.Call))
    made = (call for call in calls if ast.unparse(call.func) == "self.likelihood")
    return {ast.unparse(argument) for call in made for argument in call.args}


def _parts_of(options: Mapping[str, object]) -> dict[str, type[nn.Module]]:
    """Requested parts, by edge."""
    given = {edge: options[edge] for edge in PARTS if options.get(edge) is not None}
    return {edge: PARTS[edge][part_name(edge, value)] for edge, value in given.items()}


def _make(
    made: Callable,
    values: dict[str, Any],
    chosen: Mapping[str, Callable],
    requires: Mapping[str, str],
) -> nn.Module:
    """Call a constructor with what it names; a part is made where it is first named."""
    names = _parameters(made)
    for edge in names:
        if edge in chosen and edge not in values:
            values[edge] = _make(chosen[edge], values, chosen, requires)
    given = {n: values[n] for n in names if values.get(n, EMPTY) is not EMPTY}
    lacking = [p.name for p in names.values() if _needed(p) and p.name not in given]
    if lacking:
        hint = "" if _ours(made) else ", or give it a default"
        place = _place(made, "__init__")
        raise ValueError(f"{place}{_requires(made, lacking, requires)}{hint}.")
    return _call(made, given)


def _call(made: Callable, given: Mapping[str, Any]) -> nn.Module:
    """Call a constructor; ValueError with its file and line where that fails."""
    try:
        return made(**given)
    except ValueError:
        raise  # its message says what is wrong
    except Exception as error:
        text, line = " ".join(str(error).split()), of_error(error, made)
        what = f"{_name(made)} cannot be constructed: {type(error).__name__}: {text}"
        raise ValueError(prefix(line or of_method(made, "__init__")) + what) from error


def _requires(made: Callable, lacking: Collection[str], requires: Mapping[str, str]) -> str:
    names = ", ".join(f"`{name}`" for name in lacking)
    wanted = ", ".join(dict.fromkeys(requires.get(name, name) for name in lacking))
    return f"{_name(made)} requires {names}; pass {wanted} to fit()"


def _name(made: Callable) -> str:
    return getattr(made, "__name__", repr(made))


def _place(made: Callable, method: str) -> str:
    """File and line of a method of a user's class; nothing for ours."""
    return "" if _ours(made) else prefix(of_method(made, method))


def _ours(made: Callable) -> bool:
    return getattr(made, "__module__", "").startswith(f"{__name__.partition('.')[0]}.")


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
    if isinstance(default, int | float) and not isinstance(default, bool):
        _check_number(name, value, default)


def _check_number(name: str, value: Any, default: float) -> None:
    kind = "a whole number from 1" if isinstance(default, int) else "a number from 0"
    right = type(value) in ({int} if isinstance(default, int) else {int, float})
    if not right or not math.isfinite(value) or value < isinstance(default, int):
        raise ValueError(f"option {name} must be {kind}: got {value!r}, default {default}.")
