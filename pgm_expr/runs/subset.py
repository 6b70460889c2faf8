"""Some cells of a table, by position: their counts, their metadata, their minibatches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array
from torch import Tensor

from ..data import Cells, sweep

if TYPE_CHECKING:
    from anndata import AnnData

    from .fitted import Fitted

ENTRIES = 200_000  # counts in a minibatch: bounds cells x genes held at a time


@dataclass(frozen=True)
class Subset:
    """Cells of a table by position; their minibatches hold no label and no target."""

    cells: Cells
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def batches(self) -> Iterator[dict[str, Tensor]]:
        """Minibatches that hold no more than `ENTRIES` counts each."""
        size = max(1, ENTRIES // len(self.cells.genes))
        return sweep(self.cells.withheld(), self.index, size)

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
        """Names of the cells, (n,)."""
        return np.asarray(self.cells.names)[self.index]

    def column(self, name: str) -> np.ndarray | None:
        """Codes of an encoded column (label, batch) of these cells; None where there is none."""
        column = self.cells.columns.get(name)
        return None if column is None else np.asarray(column)[self.index]

    def every(self, number: int) -> Subset:
        """About `number` of these cells, evenly spaced."""
        return Subset(self.cells, self.index[:: -(-len(self) // number)])


def held_out_and_known(
    run: Fitted, data: AnnData | str | Path | None, *, cells: int, seed: int = 0
) -> tuple[Subset, Subset]:
    """At most `cells` held-out cells, and four times as many of those that the run was fitted to.

    Both are drawn at random, the same ones each time, and stand in the order of the data.
    """
    table = run.training_table(data)
    known = table.cells.to(run.device)
    queried, held_out = run.held_out(data)
    rng = np.random.default_rng(seed)
    first = Subset(queried, _some(held_out, cells, rng))
    return first, Subset(known, _some(table.split.development, 4 * cells, rng))


def _some(index: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    if len(index) <= most:
        return np.asarray(index)
    return np.sort(rng.choice(index, most, replace=False))
