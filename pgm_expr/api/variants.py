"""What a comparison consists of: variants of stories, and those that are refused."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .. import zoo
from ..zoo import Story

EDGES = ("likelihood", "prior", "posterior")
OWN = "own"  # in the place of a part's name: the story's own


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

    def parts(self) -> dict[str, str]:
        """The parts that replace the story's own."""
        return {edge: getattr(self, edge) for edge in EDGES if getattr(self, edge) != OWN}

    def refusal(self, stories: Mapping[str, Story], takes: str, free_bits: float) -> str | None:
        """Why it cannot be had on data of that kind; None where it can."""
        story, parts = stories[self.story], self.parts()
        missing = [edge for edge in parts if edge not in zoo.defaults(story)]
        if missing:
            return f"story {self.story} has no {missing[0]} to replace"
        wanted = zoo.takes(story, parts)
        if wanted != takes:
            return f"{self.likelihood} takes {wanted}, these data are {takes}"
        return zoo.refusal(self.objective, parts, free_bits) or _not_buildable(story, parts)


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
        zoo.objective(name)
    for edge, names in zip(EDGES, (likelihoods, priors, posteriors), strict=True):
        for name in names:
            zoo.part_name(edge, name)
    edges = [names or (OWN,) for names in (likelihoods, priors, posteriors)]
    whole = itertools.product(stories, objectives, map(float, betas), *edges)
    return list(dict.fromkeys(Variant(*each) for each in whole))


def _not_buildable(story: Story, parts: Mapping[str, str]) -> str | None:
    """What a part needs and the story does not hand it."""
    try:
        zoo.check_options(story, parts)
    except ValueError as error:
        return str(error)
    return None
