"""What a run is criticised on: held-out cells beside cells of the fit, and what sections share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from scipy import sparse
from torch import Tensor, nn

from .. import zoo
from ..evaluation.counts import replicates
from ..evaluation.guide import health
from ..evaluation.guide.sites import has_states, no_states
from ..inference import LatentUse
from ..inference.tracing import Batch
from ..predict import draw_posterior, draw_prior
from ..runs.fitted import Fitted
from ..runs.subset import Subset, held_out_and_known

if TYPE_CHECKING:
    from anndata import AnnData


LEAST_KL = 0.2  # nats per cell and dimension


class States(NamedTuple):
    """Posterior means, one row per cell."""

    known: np.ndarray  # (M, D)
    held_out: np.ndarray  # (N, D)


@dataclass(frozen=True)
class HeldOut:
    """A run, cells held out from it, and cells that it was fitted to."""

    run: Fitted
    held_out: Subset
    known: Subset
    draws: int  # importance draws per cell
    seed: int = 0

    @classmethod
    def of(
        cls,
        run: Fitted,
        data: AnnData | str | Path | None,
        *,
        cells: int,
        draws: int,
        seed: int = 0,
    ) -> HeldOut:
        """At most `cells` held-out cells, and four times as many cells of the fit."""
        held_out, known = held_out_and_known(run, data, cells=cells, seed=seed)
        return cls(run, held_out, known, draws, seed)

    @property
    def pair(self) -> tuple[nn.Module, nn.Module]:
        """Model and guide, as the functions of `evaluation` take them."""
        return self.run.model, self.run.guide

    @cached_property
    def weights(self) -> health.Weights:
        """Importance weights of the held-out cells, summarised by cell."""
        return health.weights(*self.pair, self.held_out.batches(), draws=self.draws)

    def use(self, side: Subset) -> LatentUse:
        """Posterior means and KL of some cells; ValueError for a story without latent states."""
        self.run.require_states("this section")
        found = self.run.use(side.batches())
        if not found.locs:
            raise no_states(self.run.model)
        return found

    @cached_property
    def collapse(self) -> str | None:
        """A sentence on a collapsed latent space, None where it is in use or there is none.

        A story of a few dimensions that are in use may have a KL below the 2 nats from which a fit
        warns.
        """
        batch = next(self.held_out.batches())
        if self.run.story.unit != "cells" or not has_states(*self.pair, batch):
            return None
        use = self.use(self.held_out)
        enough = use.kl.sum() >= LEAST_KL * use.loc.shape[1]
        return None if use.active_units and enough else use.verdict()

    @cached_property
    def states(self) -> States:
        """Posterior means of the cells of the fit, and of the held-out ones."""
        sides = self.known, self.held_out
        return States(*(self.use(side).loc.cpu().numpy() for side in sides))

    def drawn(self, source: Literal["posterior", "prior"]) -> Iterator[Tensor]:
        """Counts drawn for the held-out cells, minibatch by minibatch."""
        for batch in self.held_out.batches():
            if source == "posterior":
                yield draw_posterior(*self.pair, [batch])
            else:
                yield draw_prior(self.run.model, [batch])

    @property
    def totals(self) -> bool:
        """Whether the library of a cell is the total of its counts."""
        return self.run.takes == "counts" and zoo.measure(self.run.model) != "detection"

    @cached_property
    def versions(self) -> list[list[Batch]]:
        """Minibatches of the held-out cells, then of each of their replicates."""
        kept: list[Batch] = [*self.held_out.batches()]
        return [kept, *replicates.replicates(*self.pair, kept, totals=self.totals)]

    @cached_property
    def version_counts(self) -> list[sparse.csr_array]:
        """Counts of the held-out cells, then of each of their replicates, (N, G) each."""
        return [counts(version) for version in self.versions]

    @cached_property
    def new_cells(self) -> sparse.csr_array:
        """Counts of cells drawn from the prior, of the covariates of the held-out ones, (N, G)."""
        sweep = self.held_out.batches()
        return counts(replicates.prior_replicates(self.run.model, sweep, totals=self.totals))

    @property
    def labels(self) -> np.ndarray | None:
        """Labels of the held-out cells as text, None where there are none."""
        codes = self.held_out.column("label")
        return None if codes is None else np.append(self.run.encoding.labels, "none")[codes]

    def label_of(self, cell: int) -> str | None:
        """Label of one held-out cell."""
        return None if self.labels is None else str(self.labels[cell])


def counts(batches: Iterable[Batch]) -> sparse.csr_array:
    """Counts of minibatches, (N, G)."""
    parts = [sparse.csr_array(batch["x"].cpu().numpy()) for batch in batches]
    return sparse.csr_array(sparse.vstack(parts))


def mean(values: Tensor) -> float:
    """Mean over cells as a Python number."""
    return values.double().mean().item()


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """NumPy's numbers as Python's."""
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in row.items()}
