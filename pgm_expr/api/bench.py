"""The cells that a run is criticised on: held out, at most so many, beside cells that it knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from scipy.sparse import csr_array
from torch import Tensor

from .. import evaluation
from ..data import Cells, sweep
from ..evaluation import guide_health

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from .run import Run

DRAW = {"posterior": evaluation.draw_posterior, "prior": evaluation.draw_prior}
ENTRIES = 200_000  # counts in a minibatch: what a criticism holds of cells x genes at a time


@dataclass(frozen=True)
class Side:
    """Some cells of a table, by position; labels are never told of them."""

    cells: Cells
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def batches(self) -> Iterator[dict[str, Tensor]]:
        """Minibatches that hold no more than `ENTRIES` counts each."""
        size = max(1, ENTRIES // len(self.cells.genes))
        return evaluation.withheld(sweep(self.cells, self.index, size))

    @cached_property
    def counts(self) -> csr_array:
        """Their counts, (n, G)."""
        return csr_array(self.cells.counts[self.index])

    @property
    def library(self) -> np.ndarray:
        """Their totals over the modelled genes, (n,)."""
        return np.asarray(self.counts.sum(1), np.float64).ravel()

    @property
    def names(self) -> np.ndarray:
        return np.asarray(self.cells.names)[self.index]

    def column(self, name: str) -> np.ndarray | None:
        """Codes of a column (label, batch) of these cells, None where the data tell none."""
        column = self.cells.columns.get(name)
        return None if column is None else np.asarray(column)[self.index]


class States(NamedTuple):
    """Posterior means, a row a cell."""

    known: np.ndarray  # (M, D)
    held_out: np.ndarray  # (N, D)


@dataclass(frozen=True)
class Bench:
    """A run, cells held out from it, and cells that it was fitted to."""

    run: Run
    held_out: Side
    known: Side
    draws: int
    seed: int = 0

    @property
    def pair(self) -> tuple:
        """Model and guide, as the functions of `evaluation` take them."""
        return self.run.model, self.run.guide

    @cached_property
    def weights(self) -> guide_health.Weights:
        """Importance weights of the held-out cells, told by their figures."""
        return guide_health.weights(*self.pair, self.held_out.batches(), draws=self.draws)

    @cached_property
    def states(self) -> States:
        """Of the cells that the run was fitted to, and of the held-out ones."""
        sides = self.known, self.held_out
        return States(*(self.run.use(side.batches()).loc.cpu().numpy() for side in sides))

    def drawn(self, source: Literal["posterior", "prior"]) -> Iterator[Tensor]:
        """Counts drawn for the held-out cells, one minibatch after the other."""
        draw, halves = DRAW[source], self.pair[: 2 if source == "posterior" else 1]
        return (draw(*halves, [batch]) for batch in self.held_out.batches())

    @property
    def labels(self) -> np.ndarray | None:
        """Labels of the held-out cells as text, None where the data tell none."""
        codes = self.held_out.column("label")
        return None if codes is None else np.append(self.run.encoding.labels, "none")[codes]

    def first(self, number: int) -> Side:
        """Some of the held-out cells, for what takes long."""
        return Side(self.held_out.cells, self.held_out.index[:: -(-len(self.held_out) // number)])


def bench(
    run: Run, data: AnnData | str | Path | None, *, cells: int, draws: int, seed: int = 0
) -> Bench:
    """At most `cells` held-out cells, and four times as many of those the run was fitted to.

    Both are drawn at random, the same ones each time, and stand in the order of the data.
    """
    run.reread(data)
    known = run.table.cells.to(run.device)
    asked, held_out = run.held_out(data)
    rng = np.random.default_rng(seed)
    sides = (asked, held_out, cells), (known, run.table.split.development, 4 * cells)
    return Bench(run, *(Side(c, _some(index, n, rng)) for c, index, n in sides), draws, seed)


def _some(index: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    if len(index) <= most:
        return np.asarray(index)
    return np.sort(rng.choice(index, most, replace=False))


def mean(values: Tensor) -> float:
    """Over cells, as a Python number."""
    return values.double().mean().item()


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """NumPy's numbers as Python's."""
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in row.items()}
