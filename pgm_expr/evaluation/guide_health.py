r"""Is the guide right? What importance weights say of q(z | x), cell by cell.

    w_nk = p(x_n, z_k) / q(z_k | x_n),  z_k ~ q(z | x_n),  k = 1 ... K

    pareto_k     shape of the tail of w_n: below .5 variances are finite, above .7 estimates from
                 these weights are not to be trusted (Vehtari et al. 2024)
    efficiency   effective sample size over K, (sum w)^2 / (K sum w^2)
    elbo         mean_k log w_nk, nats
    iwae         log mean_k w_nk, nats, and at K / 4
    gap          iwae - elbo: nats that the guide's bound leaves

In many dimensions k is above .7 for nearly all cells of well-fitted stories, so it is no alarm:
look at its distribution, at the order of cells, and at k once each cell's posterior is its own.

Over all cells, KL(q(z | x) || p(z)) splits into what z tells of x and how far the posteriors
together are from the prior (Hoffman and Johnson 2016):

    mean_n KL_n = I(x; z) + KL(q(z) || p(z)),   q(z) = mean_n q(z | x_n)

Vehtari et al., JMLR 2024, https://arxiv.org/abs/1507.02646
Hoffman and Johnson, ELBO surgery, NIPS workshop 2016.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ..inference import IWAE, seeded
from ..inference.tracing import sample_sites, trace, within_cells
from .heldout import ENTRIES, SEED
from .refine import refined_guide

Batch = Mapping[str, Tensor]
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Weights(NamedTuple):
    """What the importance weights of N cells say of their posteriors."""

    pareto_k: Tensor  # (N,)
    efficiency: Tensor  # (N,) effective sample size over K
    elbo: Tensor  # (N,) nats
    iwae_quarter: Tensor  # (N,) nats, at K / 4
    iwae: Tensor  # (N,) nats, at K

    @property
    def gap(self) -> Tensor:
        """Nats that the bound leaves, (N,)."""
        return self.iwae - self.elbo

    def worst(self, number: int = 10) -> Tensor:
        """Positions of the cells whose posteriors are the worst: largest gap of the bound.

        k itself is an estimate with an error of .1 and more; the gap is in nats.
        """
        return self.gap.argsort(descending=True)[:number]


@torch.no_grad()
def weights(
    model: nn.Module, guide: nn.Module, batches: Iterable[Batch], *, draws: int = 1000
) -> Weights:
    """The health of a guide on some cells, from `draws` importance weights each.

    Weights of a minibatch are held at a time, never those of all cells. ValueError for fewer than
    100 draws: the tail of the weights needs 20.
    """
    if draws < 100:
        raise ValueError(f"draws must be at least 100, to fit a tail: got {draws}.")
    with seeded(SEED):
        parts = [_of_batch(log_weights(model, guide, batch, draws)) for batch in batches]
    return Weights(*map(torch.cat, zip(*parts, strict=True)))


def refined_weights(
    model: nn.Module,
    guide: nn.Module,
    batches: Iterable[Batch],
    *,
    draws: int = 1000,
    steps: int = 200,
) -> Weights:
    """`weights` once the posterior of each cell is its own, see `refine`."""
    parts = []
    with seeded(SEED):
        for batch in batches:
            with refined_guide(model, guide, batch, steps=steps) as own, torch.no_grad():
                parts.append(_of_batch(log_weights(model, own, batch, draws)))
    return Weights(*map(torch.cat, zip(*parts, strict=True)))


def log_weights(model: nn.Module, guide: nn.Module, batch: Batch, draws: int) -> Tensor:
    """log w of each draw and cell, (K, N); enumerated sites are summed over."""
    most, rows = max(1, ENTRIES // batch["x"].numel()), []
    for chunk in torch.arange(draws).split(most):
        bound = IWAE(model, guide, cells=math.inf, particles=len(chunk)).eval()
        rows.append(bound.to(batch["x"].device).log_weights(**batch))
    return torch.cat(rows).double()


def _of_batch(log_w: Tensor) -> Weights:
    k, few = len(log_w), max(1, len(log_w) // 4)
    total = log_w.logsumexp(0)
    efficiency = (2 * total - (2 * log_w).logsumexp(0)).exp() / k
    quarter = log_w[:few].logsumexp(0) - math.log(few)
    return Weights(pareto_k(log_w), efficiency, log_w.mean(0), quarter, total - math.log(k))


def pareto_k(log_w: Tensor) -> Tensor:
    """Pareto's k of log weights (K, N), one a cell, by ArviZ: (N,)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ announces its next version
        import arviz

        _, k = arviz.psislw(log_w.T.cpu().numpy().copy())
    return torch.as_tensor(np.atleast_1d(k), device=log_w.device)


def quantiles(values: Tensor) -> dict[str, float]:
    """5, 25, 50, 75 and 95% quantiles by name; of the finite values, NaN where there are none."""
    known = values[values.isfinite()].double()
    found = known.quantile(known.new_tensor(QUANTILES)) if len(known) else [math.nan] * 5
    return {f"q{round(100 * q):02d}": float(v) for q, v in zip(QUANTILES, found, strict=True)}


class Surgery(NamedTuple):
    """Where the nats of the KL go, of one continuous site: per cell, and over all cells."""

    kl: float  # mean over cells of KL(q(z | x) || p(z)), by draws
    information: float  # I(x; z) under the guide, at most log(cells)
    aggregate: float  # KL(q(z) || p(z)): the posteriors together against the prior


@torch.no_grad()
def surgery(
    model: nn.Module, guide: nn.Module, batches: Iterable[Batch], *, draws: int = 4
) -> dict[str, Surgery]:
    """Mutual information of cells and each continuous latent, and what is left of its KL.

    All pairs of cells are looked at, a minibatch of draws against a minibatch of posteriors, so
    time grows with the square of their number: pass some hundreds. Where a prior is conditional,
    the prior of each draw is its own cell's. Averaged over `draws` of each cell.
    """
    with seeded(SEED):
        kept = list(batches)
        each = [_surgery(_posteriors(model, guide, kept)) for _ in range(draws)]
    return {
        site: Surgery(*torch.tensor([one[site] for one in each]).mean(0).tolist())
        for site in each[0]
    }


Posterior = tuple[TorchDistribution, Tensor, Tensor]  # q of a minibatch, draws (N, D), log p (N,)


def _posteriors(
    model: nn.Module, guide: nn.Module, batches: Iterable[Batch]
) -> dict[str, list[Posterior]]:
    """What is known of each continuous latent of a cell, minibatch by minibatch."""
    model.eval(), guide.eval()
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
    each = torch.cat([q.log_prob(z.unsqueeze(-2)) for q in posteriors], -1)  # (M, N)
    return each.logsumexp(-1) - math.log(each.shape[-1])
