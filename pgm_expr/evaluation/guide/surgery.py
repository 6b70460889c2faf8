r"""ELBO surgery: the KL split into mutual information and the gap of the aggregate posterior.

    mean_n KL_n = I(n; z) + KL(q(z) || p(z)),   q(z) = mean_n q(z | x_n)

by draws z ~ q(z | x_n), with all N posteriors in the mixture q(z). I(n; z) is information about
which of these N cells it is, so it is at most log N: near that, N is too small to measure it, and
the second term is too large by what is missing. Both hold exactly for the N cells.

A site whose posterior depends on another latent (a state given the type) is taken with that latent
at its draw. A conditional prior is taken at the covariates of each draw's cell: the second term is
then what the priors of the cells explain together, and may be negative.

Hoffman and Johnson, ELBO surgery, NIPS workshop 2016.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from pyro import poutine
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ...inference import seeded
from ...inference.tracing import sample_sites, trace, within_cells
from ...predict import SEED, Batch
from .sites import shared_sites

PAIRS = 100_000  # draws x posteriors at a time: a flow keeps a hidden layer for each


class Surgery(NamedTuple):
    """Decomposition of the KL of one continuous site, nats per cell.

    Parameters
    ----------
    kl
        Mean over cells of KL(q(z | x) || p(z)), by draws.
    information
        Mutual information I(n; z) under the guide, at most log(cells).
    aggregate
        KL(q(z) || p(z)) from the aggregate posterior to the prior.
    cells
        Number of cells.
    """

    kl: float
    information: float
    aggregate: float
    cells: int

    @property
    def saturated(self) -> bool:
        """Whether there are too few cells: information is within a nat of log(cells)."""
        return self.information > math.log(self.cells) - 1


@torch.no_grad()
def surgery(
    model: nn.Module, guide: nn.Module, batches: Iterable[Batch], *, draws: int = 4
) -> dict[str, Surgery]:
    """Split the KL of each continuous latent into mutual information and an aggregate term.

    Each draw of a cell is compared with the posteriors of all cells, so time grows with the square
    of their number: pass about a thousand.

    Parameters
    ----------
    model, guide
        A fitted pair.
    batches
        Minibatches of the cells.
    draws
        Draws per cell, averaged over.

    Returns
    -------
    dict
        By site; empty for a story without a continuous latent of cells.

    Raises
    ------
    ValueError
        For no cells.

    Examples
    --------
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.models import VAE
    >>> pair = VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2)
    >>> cells = {"x": torch.ones(8, 5), "library": torch.full((8, 1), 5.0)}
    >>> parts = surgery(*pair, [cells])["z"]
    >>> bool(abs(parts.kl - parts.information - parts.aggregate) < 1e-6)
    True
    """
    model.eval(), guide.eval()
    kept = list(batches)
    cells = sum(len(batch["library"]) for batch in kept)
    if not cells:
        raise ValueError("surgery needs cells: got none. Pass a minibatch.")
    with seeded(SEED), poutine.replay(trace=shared_sites(guide, kept[0])):
        each = [_surgery(_posteriors(model, guide, kept)) for _ in range(draws)]
    means = {site: np.mean([one[site] for one in each], 0) for site in each[0]}
    return {site: Surgery(kl, mi, gap, cells) for site, (kl, mi, gap) in means.items()}


Posterior = tuple[TorchDistribution, Tensor, Tensor]  # q of a minibatch, draws (N, D), log p (N,)


def _posteriors(
    model: nn.Module, guide: nn.Module, batches: Iterable[Batch]
) -> dict[str, list[Posterior]]:
    """Posteriors, draws and log priors of each continuous latent of cells, by minibatch."""
    found: dict[str, list[Posterior]] = {}
    for batch in batches:
        guided = trace(guide, batch)  # an enumerated site is drawn
        nodes: Mapping[str, Any] = trace(model, batch, at=guided).nodes
        for site in sample_sites(guided):
            if within_cells(site) and not site["fn"].support.is_discrete:
                z, p = site["value"], nodes[site["name"]]["fn"]
                found.setdefault(site["name"], []).append((site["fn"], z, p.log_prob(z)))
    return found


def _surgery(sites: Mapping[str, list[Posterior]]) -> dict[str, tuple[float, float, float]]:
    found = {}
    for site, parts in sites.items():
        q_own = torch.cat([q.log_prob(z) for q, z, _ in parts]).double()  # (N,)
        prior = torch.cat([p for *_, p in parts]).double()
        mixed = torch.cat([_mixed(z, [q for q, *_ in parts]) for _, z, _ in parts]).double()
        kl, mi, gap = q_own - prior, q_own - mixed, mixed - prior
        found[site] = kl.mean().item(), mi.mean().item(), gap.mean().item()
    return found


def _mixed(z: Tensor, posteriors: Iterable[TorchDistribution]) -> Tensor:
    """log mean_n q(z | x_n) of draws (M, D) over all cells n: (M,)."""
    each = torch.cat([_beside(z, q) for q in posteriors], -1)  # (M, N)
    return each.logsumexp(-1) - math.log(each.shape[-1])


def _beside(z: Tensor, q: TorchDistribution) -> Tensor:
    """log q of each draw under each posterior of a minibatch: (M, n)."""
    some = z.unsqueeze(1).split(max(1, PAIRS // q.batch_shape[-1]))
    return torch.cat([q.log_prob(draws) for draws in some])
