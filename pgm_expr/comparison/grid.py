"""What a comparison consists of: variants of stories, and those that are refused."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .. import zoo
from ..inference import Plan
from ..zoo import Story

EDGES = ("likelihood", "prior", "posterior")
OWN = "own"  # in the place of a name: the story's own objective or part


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
        """A name that is a folder's too."""
        return "_".join(f"{value:g}" if key == "beta" else value for key, value in self.items())

    def items(self) -> list[tuple[str, Any]]:
        """The columns that make it what it is."""
        return list(asdict(self).items())

    @property
    def objective_name(self) -> str | None:
        """As `fit` takes it."""
        return None if self.objective == OWN else self.objective

    def parts(self) -> dict[str, str]:
        """The parts that replace the story's own."""
        return {edge: getattr(self, edge) for edge in EDGES if getattr(self, edge) != OWN}

    def refusal(self, story: Story, takes: str, settings: Mapping[str, Any]) -> str | None:
        """Why it cannot be had on data of that kind; None where it can."""
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
        """Those of a comparison's settings that this variant has: training's and its own."""
        known = {*Plan.__dataclass_fields__, *zoo.known_options(story, self.parts())}
        return {name: value for name, value in settings.items() if name in known}


def check_settings(
    settings: Mapping[str, Any], wanted: Iterable[Variant], stories: Mapping[str, Story]
) -> None:
    """ValueError for a setting that no variant has, or of a wrong kind."""
    known: dict[str, Any] = dict.fromkeys(Plan.__dataclass_fields__)
    for variant in wanted:
        options = variant.settings(stories[variant.story], settings)
        known |= options
        training = {n: v for n, v in options.items() if n in Plan.__dataclass_fields__}
        Plan(**training)
        own = {name: value for name, value in options.items() if name not in training}
        zoo.check_options(stories[variant.story], own | variant.parts())
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
    """Every combination, in the order given; ValueError for names the zoo does not have."""
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
    """What a part needs and the story does not hand it."""
    try:
        zoo.check_options(story, parts)
    except ValueError as error:
        return str(error)
    return None
