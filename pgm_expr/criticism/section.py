"""A section of a criticism: one question to a fitted story, and how its answer is shown.

To add one, write a file that ends in `SECTION = Section(...)` and add a row to `sections.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from markupsafe import Markup
from rich.console import RenderableType

from .held_out import HeldOut

GOOD, DOUBTFUL, BAD = "good", "doubtful", "bad"
ALPHA = 0.02  # probability that a sentence is not good although story and guide are right
CHANCE = f"with a true story this happens in at most {ALPHA:.0%} of reports"


class Sentence(NamedTuple):
    """One finding of the verdict: `text` is "Topic: finding.", `mark` follows from `rule`.

    A sentence is not good where a misfit is both significant at the level `ALPHA` and larger than
    a size that matters, which the rule states. All ten sentences of the package together are good
    of a true story in at least 80% of reports.
    """

    mark: str  # good, doubtful or bad
    text: str
    rule: str


@dataclass(frozen=True)
class Section:
    """One check of a fitted story.

    Parameters
    ----------
    name
        Key of the finding in `criticism.json`.
    question
        Heading on all pages; ends in "?".
    measure
        Function of `HeldOut` that returns what JSON can hold, the finding. A ValueError states
        why these data do not allow it.
    judge
        Function of the finding that returns its sentence in the verdict, None where the finding
        holds nothing to judge. Or the reason why the section has no verdict.
    page
        Function of the finding that returns Rich renderables for the terminal.
    html
        Function of the finding that returns markup for the HTML report, see `report.render`.
    rank
        Place in the verdict, the most important first; tens, so that a new one fits between.
    by_cell
        Entries of `found["by_cell"]`, one value per held-out cell each, that `criticize` writes
        to `obs`.
    summary
        Entries of the finding that `criticize` writes to `uns`.
    """

    name: str
    question: str
    measure: Callable[[HeldOut], Any]
    judge: Callable[[Any], Sentence | None] | str
    page: Callable[[Any], Sequence[RenderableType]]
    html: Callable[[Any], Markup]
    rank: int = 1000
    by_cell: tuple[str, ...] = ()
    summary: tuple[str, ...] = ()


def mark(value: float, good: float, doubtful: float) -> str:
    """Good up to one limit, doubtful up to the other, bad above."""
    return GOOD if value <= good else DOUBTFUL if value <= doubtful else BAD
