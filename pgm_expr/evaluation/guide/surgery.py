r"""Where the nats of the KL go: what latents tell of cells, and what they waste.

Over N cells, KL(q(z | x) || p(z)) splits into what z tells of x and how far the posteriors
together are from the prior:

    mean_n KL_n = I(n; z) + KL(q(z) || p(z)),   q(z) = mean_n q(z | x_n)

by draws z ~ q(z | x_n), with all N posteriors in the mixture q(z). I(n; z) says which of these N
cells it was, so it is at most log N: where it comes near, N was too small to measure it, and the
second term is too large by what is missing. Both are exact statements about the N cells.

A site whose posterior depends on another latent (a state given the kind) is looked at with that
latent at its draw. A conditional prior is taken at each draw's own cell: the second term then
says how much the cells' priors together explain, and may be negative.

Hoffman and Johnson, ELBO surgery, NIPS workshop 2016.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from pyro import poutine
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ...inference import seeded
from ...inference.tracing import sample_sites, trace, within_cells
from ...predict import SEED, Batch
from .refine import shared_sites

PAIRS = 100_000  # draws x posteriors at a time: a flow holds its hidden layer for each


class Surgery(NamedTuple):
    """Where the nats of the KL go, of one continuous site: per cell, and over all cells."""

    kl: float  # mean over cells of KL(q(z | x) || p(z)), by draws
    information: float  # I(n; z) under the guide, at most log(cells)
    aggregate: float  # KL(q(z) || p(z)): the posteriors together against the prior
    cells: int

    @property
    def saturated(self) -> bool:
        """Whether there were too few cells to tell: information is within a nat of log(cells)."""
        return self.information > math.log(self.cells) - 1


@torch.no_grad()
def surgery(
    model: nn.Module, guide: nn.Module, batches: Iterable[Batch], *, draws: int = 4
) -> dict[str, Surgery]:
    """Mutual information of cells and each continuous latent, and what is left of its KL.

    All pairs of cells are looked at, a minibatch of draws against a minibatch of posteriors, so
    time grows with the square of their number: pass a thousand. Averaged over `draws` of each
    cell. ValueError for no cells.
    """
    model.eval(), guide.eval()
    kept = list(batches)
    cells = sum(len(batch["library"]) for batch in kept)
    if not cells:
        raise ValueError("surgery needs cells to look at: got none. Pass a minibatch.")
    with seeded(SEED), poutine.replay(trace=shared_sites(guide, kept[0])):
        each = [_surgery(_posteriors(model, guide, kept)) for _ in range(draws)]
    return {site: Surgery(*np.mean([one[site] for one in each], 0), cells) for site in each[0]}


Posterior = tuple[TorchDistribution, Tensor, Tensor]  # q of a minibatch, draws (N, D), log p (N,)


def _posteriors(
    model: nn.Module, guide: nn.Module, batches: Iterable[Batch]
) -> dict[str, list[Posterior]]:
    """What is known of each continuous latent of a cell, minibatch by minibatch."""
    found: dict[str, list[Posterior]] = {}
    for batch in batches:
        guided = trace(guide, batch)  # an enumerated site is drawn
        modelled = trace(model, batch, at=guided)
        for site in sample_sites(guided):
            if within_cells(site) and not site["fn"].support.is_discrete:
                z, p = site["value"], modelled.nodes[site["name"]]["fn"]
                found.setdefault(site["name"], []).append((site["fn"], z, p.log_prob(z)))
    return found


def _surgery(sites: Mapping[str, list[Posterior]]) -> dict[str, tuple[float, float, float]]:
    found = {}
    for site, parts in sites.items():
        own = torch.cat([q.log_prob(z) for q, z, _ in parts]).double()  # (N,)
        prior = torch.cat([p for *_, p in parts]).double()
        mixed = torch.cat([_mixed(z, [q for q, *_ in parts]) for _, z, _ in parts]).double()
        pairs = (own, prior), (own, mixed), (mixed, prior)
        found[site] = tuple((a - b).mean().item() for a, b in pairs)
    return found


def _mixed(z: Tensor, posteriors: Iterable[TorchDistribution]) -> Tensor:
    """log mean_n q(z | x_n) of draws (M, D) over all cells n: (M,)."""
    each = torch.cat([_beside(z, q) for q in posteriors], -1)  # (M, N)
    return each.logsumexp(-1) - math.log(each.shape[-1])


def _beside(z: Tensor, q: TorchDistribution) -> Tensor:
    """log q of each draw under each posterior of a minibatch: (M, n)."""
    some = z.unsqueeze(1).split(max(1, PAIRS // q.batch_shape[-1]))
    return torch.cat([q.log_prob(draws) for draws in some])
