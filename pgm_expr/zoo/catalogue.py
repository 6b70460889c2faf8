"""Every story, part and objective by name, and which of them do not go together."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from .. import guides, models, parts
from ..inference import ELBO, IWAE, Enum, MeanField, Objective, Renyi, Trace

UNITS = ("cells", "profiles")


@dataclass(frozen=True)
class Story:
    """A generative story: a Pyro model and its guide.

    Parameters
    ----------
    model, guide
        Classes of the two halves. Constructor arguments of `FROM_DATA` are filled from the data,
        all others are options of `fit`.
    objective
        The usual objective, a class.
    unit
        "cells" where each cell has a latent state; "profiles" where the rows are bulk samples, or
        groups of cells, without one.
    own
        Name, hash and text of the user's file that the story was read from.

    Raises
    ------
    ValueError
        For another unit.

    Examples
    --------
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.models import VAE
    >>> Story(model=VAE, guide=VAEGuide).unit
    'cells'
    """

    model: Callable[..., nn.Module]
    guide: Callable[..., nn.Module]
    objective: Callable[..., Objective] = ELBO
    unit: str = "cells"
    own: Mapping[str, str] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(
                f"the unit of a story must be {' or '.join(UNITS)}: got {self.unit!r}."
            )


STORIES = {
    "vae": Story(models.VAE, guides.VAEGuide),
    "latent_library": Story(models.LatentLibrary, guides.LatentLibraryGuide),
    "bayesian_vae": Story(models.BayesianVAE, guides.BayesianVAEGuide),
    "linear": Story(models.LinearVAE, guides.LinearVAEGuide),
    "cvae": Story(models.CVAE, guides.CVAEGuide),
    "conditional_prior": Story(models.ConditionalPrior, guides.ConditionalPriorGuide),
    "label": Story(models.Label, guides.LabelGuide, Enum),
    "classify": Story(models.Classify, guides.ClassifyGuide),
    "regress": Story(models.Regress, guides.RegressGuide),
    "hierarchical": Story(models.Hierarchical, guides.HierarchicalGuide),
    "ladder": Story(models.Ladder, guides.LadderGuide),
    "mixture": Story(models.MixtureOfVAEs, guides.MixtureOfVAEsGuide),
    "shift": Story(models.Shift, guides.ShiftGuide),
    "offset": Story(models.Offset, guides.OffsetGuide),
}

PARTS: dict[str, dict[str, type[nn.Module]]] = {
    "prior": {
        "normal": parts.StandardNormal,
        "wide": parts.WideNormal,
        "mog": parts.MixtureOfNormals,
        "vamp": parts.VampPrior,
        "flow": parts.FlowPrior,
    },
    "likelihood": {
        "nb": parts.NegativeBinomial,
        "zinb": parts.ZeroInflatedNB,
        "poisson": parts.PoissonCounts,
        "nb-batch": parts.NegativeBinomialByBatch,
        "nb-cell": parts.NegativeBinomialByCell,
        "nb-mixture": parts.NegativeBinomialMixture,
        "dirichlet-multinomial": parts.DirichletMultinomial,
        "bernoulli": parts.Detection,
        "rounded-gaussian": parts.RoundedGaussian,
        "gaussian": parts.Gaussian,
        "gaussian-mixture": parts.GaussianMixture,
        "gaussian-low-rank": parts.LowRankGaussianMixture,
    },
    "link": {"softmax": parts.Composition, "exp": parts.Rate},
    "posterior": {
        "normal": parts.DiagonalNormal,
        "low-rank": parts.LowRankNormal,
        "flow": parts.FlowPosterior,
    },
}

OBJECTIVES: dict[str, type[Objective]] = {
    "elbo": ELBO,
    "trace": Trace,
    "mean-field": MeanField,
    "enum": Enum,  # enum-2: twice the weight of the classification term
    "iwae": IWAE,  # iwae-10: with 10 particles
    "renyi": Renyi,  # renyi-0.5-10: alpha 0.5 with 10 particles
}

PARTICLES = 10  # of importance-weighted objectives, where their name gives no number

NO_KL = "no closed-form KL"
UNTAUGHT = "only the auxiliary term of enum trains its classifier"
NO_AVERAGE = "importance weights contain no average KL to put a floor under"
REFUSED = {  # what does not go together, and why
    ("mean-field", "prior=mog"): NO_KL,
    ("mean-field", "prior=vamp"): NO_KL,
    ("mean-field", "prior=flow"): NO_KL,
    ("mean-field", "posterior=low-rank"): NO_KL,
    ("mean-field", "posterior=flow"): NO_KL,
    ("mean-field", "conditional_prior"): NO_KL,
    ("mean-field", "hierarchical"): NO_KL,
    ("iwae", "free_bits"): NO_AVERAGE,
    ("renyi", "free_bits"): NO_AVERAGE,
    **{(kind, "label"): UNTAUGHT for kind in OBJECTIVES if kind != "enum"},
}


def story(name: str) -> Story:
    """A story of the zoo by name.

    Parameters
    ----------
    name
        A key of `STORIES`.

    Returns
    -------
    Story
        Its model, guide, usual objective and unit.

    Raises
    ------
    ValueError
        For an unknown name, with the nearest one.

    Examples
    --------
    >>> story("vae").guide.__name__
    'VAEGuide'
    """
    return pick("story", name, STORIES)


def objective(name: str) -> Callable[..., Objective]:
    """An objective by name.

    Parameters
    ----------
    name
        A key of `OBJECTIVES`, then its numbers: `trace`, `trace-5` (particles), `mean-field`,
        `enum-2` (weight of the classification term), `iwae-10` (particles), `renyi-0.5-10`
        (alpha, particles). `iwae-10-dreg` has doubly reparameterised gradients.

    Returns
    -------
    Callable
        To be called with (model, guide, cells=N).

    Raises
    ------
    ValueError
        For an unknown name, and numbers that the objective does not take.

    Examples
    --------
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.models import VAE
    >>> objective("iwae-5")(VAE(genes=3), VAEGuide(genes=3), cells=10).particles
    5
    """
    kind, numbers, dreg = _read(name)
    made = pick("objective", kind, OBJECTIVES)
    if len(numbers) > len(made.numbers) or (dreg and not issubclass(made, Renyi)):
        takes = "-".join([kind, *(number.upper() for number in made.numbers)])
        raise ValueError(f"unknown objective '{name}': {kind} is written {takes}.")
    read = zip(made.numbers.items(), numbers, strict=False)
    usual = {"particles": PARTICLES} if issubclass(made, Renyi) else {}
    settings = usual | {key: number(text) for (key, number), text in read}
    return partial(made, **settings, **({"doubly": True} if dreg else {}))


def _read(name: str) -> tuple[str, list[str], bool]:
    """`renyi-0.5-10-dreg` as ("renyi", ["0.5", "10"], True)."""
    words = name.removesuffix("-dreg").split("-")
    first = next((i for i, word in enumerate(words) if word[:1].isdigit()), len(words))
    return "-".join(words[:first]), words[first:], name.endswith("-dreg")


def refusal(
    story: Story, objective: str | None, options: Mapping[str, object], free_bits: float = 0.0
) -> str | None:
    """Why an objective and options do not go together.

    Parameters
    ----------
    story
        Any story.
    objective
        Name of an objective; None for the usual one of the story.
    options
        Options of the story by name.
    free_bits
        Nats of `free_bits`, 0 for none.

    Returns
    -------
    str or None
        A sentence without its full stop; None where they go together.

    Examples
    --------
    >>> refusal(story("vae"), "mean-field", {"prior": "mog"})
    'mean-field does not go with prior=mog: no closed-form KL'
    >>> refusal(story("vae"), "mean-field", {})
    """
    usual = (name for name, made in OBJECTIVES.items() if made is story.objective)
    kind = _read(objective)[0] if objective else next(usual, "")
    words = {kind, *(f"{name}={value}" for name, value in options.items())}
    words |= {"free_bits"} if free_bits else set()
    words |= {name for name, known in STORIES.items() if known == story}
    for pair, why in REFUSED.items():
        if set(pair) <= words:
            return f"{pair[0]} does not go with {pair[1]}: {why}"
    return None


def part_name(edge: str, value: object) -> str:
    """The name in `PARTS` of a part given by name or class; ValueError for any other."""
    for name, made in PARTS[edge].items():
        if value is made:
            return name
    pick(edge, str(value), PARTS[edge])
    return str(value)


def pick(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """The entry of that name; ValueError with near matches otherwise."""
    if name in table:
        return table[name]
    near = difflib.get_close_matches(str(name), table, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ValueError(f"unknown {kind} '{name}'.{hint} Known: {', '.join(table)}.")
