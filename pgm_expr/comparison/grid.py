"""Variants of a comparison, and why some are refused."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .. import zoo
from ..inference import Plan
from ..zoo import Story

EDGES = ("likelihood", "prior", "posterior")
OWN = "own"  # in place of a name: the default objective or part of the story


@dataclass(frozen=True)
class Variant:
    """One row of a comparison."""

    story: str
    objective: str
    beta: float
    likelihood: str = OWN
    prior: str = OWN
    posterior: str = OWN

    @property
    def name(self) -> str:
        """Its name, also that of its folder."""
        return "_".join(f"{value:g}" if key == "beta" else value for key, value in self.items())

    def items(self) -> list[tuple[str, Any]]:
        """Story and options by name."""
        return list(asdict(self).items())

    @property
    def objective_name(self) -> str | None:
        """Name of the objective as `fit` takes it; None for the default."""
        return None if self.objective == OWN else self.objective

    def parts(self) -> dict[str, str]:
        """Parts that replace those of the story."""
        return {edge: getattr(self, edge) for edge in EDGES if getattr(self, edge) != OWN}

    def refusal(self, story: Story, takes: str, settings: Mapping[str, Any]) -> str | None:
        """Why the variant is impossible on data of that kind; None where it is possible."""
        parts = self.parts()
        missing = [edge for edge in parts if edge not in zoo.defaults(story)]
        if missing:
            return f"story {self.story} has no {missing[0]} to replace"
        wanted = zoo.takes(story, parts)
        if wanted != takes:
            return f"{self.likelihood} takes {wanted}, these data are {takes}"
        free_bits = settings.get("free_bits", 0.0)
        why = zoo.refusal(story, self.objective_name, parts, free_bits)
        return why or _not_buildable(story, parts)

    def settings(self, story: Story, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings that apply to this variant: of training, and options of its story."""
        known = {*Plan.__dataclass_fields__, *zoo.known_options(story, self.parts())}
        return {name: value for name, value in settings.items() if name in known}


def check_settings(
    settings: Mapping[str, Any], wanted: Iterable[Variant], stories: Mapping[str, Story]
) -> None:
    """ValueError for a setting that applies to no variant, or of a wrong kind."""
    known: dict[str, Any] = dict.fromkeys(Plan.__dataclass_fields__)
    for variant in wanted:
        options = variant.settings(stories[variant.story], settings)
        known |= options
        training = {n: v for n, v in options.items() if n in Plan.__dataclass_fields__}
        Plan(**training)
        of_story = {name: value for name, value in options.items() if name not in training}
        zoo.check_options(stories[variant.story], of_story | variant.parts())
    for name in settings:
        zoo.pick("option", name, known)


def variants(
    stories: Sequence[str],
    objectives: Sequence[str],
    betas: Sequence[float],
    likelihoods: Sequence[str],
    priors: Sequence[str],
    posteriors: Sequence[str],
) -> list[Variant]:
    """Every combination, in the order given; ValueError for an unknown name."""
    for name in objectives:
        if name != OWN:
            zoo.objective(name)
    for edge, names in zip(EDGES, (likelihoods, priors, posteriors), strict=True):
        for name in names:
            zoo.part_name(edge, name)
    edges = [names or (OWN,) for names in (likelihoods, priors, posteriors)]
    whole: Iterable[Any] = itertools.product(
        stories, objectives or (OWN,), map(float, betas), *edges
    )
    return list(dict.fromkeys(Variant(*each) for each in whole))


def _not_buildable(story: Story, parts: Mapping[str, str]) -> str | None:
    """What a part requires and the story does not provide."""
    try:
        zoo.check_options(story, parts)
    except ValueError as error:
        return str(error)
    return None
