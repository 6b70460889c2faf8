r"""Does the guide approximate the posterior? Importance weights of q(z | x), cell by cell.

    w_nk = p(x_n, z_k) / q(z_k | x_n),  z_k ~ q(z | x_n),  k = 1 ... K

    pareto_k     shape of the tail of w_n: below 0.5 variances are finite, above 0.7 estimates from
                 these weights are unreliable (Vehtari et al. 2024)
    efficiency   effective sample size over K, (sum w)^2 / (K sum w^2)
    elbo         mean_k log w_nk, nats
    iwae         log mean_k w_nk, nats, and at K / 4
    gap          iwae - elbo, nats

In many dimensions k is above 0.7 for nearly all cells of well-fitted stories, so it is no alarm by
itself: look at its distribution, at the order of cells, and at k with per-cell refined posteriors.
Where all weights of a cell are equal, as for the exact posterior, there is no tail to fit and
ArviZ returns infinity; so it does where a few draws have all the weight. `efficiency`
distinguishes the two.

`guide_health` puts them beside latent use (`inference.latent_use`) and the decomposition of the
KL (`surgery`).

Vehtari et al., JMLR 2024, https://arxiv.org/abs/1507.02646
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import torch
from pyro import poutine
from torch import Tensor, nn

from ...inference import ELBO, IWAE, LatentUse, Objective, latent_use, seeded
from ...predict import SEED, Batch
from ..arviz import psislw
from ..bounds.held_out import ENTRIES, standard_error
from .refine import refined_guide
from .sites import DiscreteLatent, shared_sites
from .surgery import Surgery, surgery

HIGH = 0.7  # a k above which an estimate from the weights is unreliable
EQUAL = 0.99  # efficiency above which they are nearly equal, whatever k
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Weights(NamedTuple):
    """Importance weights of N cells, summarised by cell.

    Parameters
    ----------
    pareto_k
        Shape of the tail of the weights, (N,).
    efficiency
        Effective sample size over K, (N,).
    elbo
        Evidence lower bound, nats, (N,).
    iwae_quarter, iwae
        Importance-weighted bound at K / 4 and at K, nats, (N,).
    variance
        Of the log weights over draws, (N,).
    draws
        Number K of draws, (N,).
    """

    pareto_k: Tensor
    efficiency: Tensor
    elbo: Tensor
    iwae_quarter: Tensor
    iwae: Tensor
    variance: Tensor
    draws: Tensor

    @property
    def elbo_mcse(self) -> float:
        """Monte Carlo standard error of the mean ELBO over these cells, nats."""
        return _mcse(self.variance / self.draws)

    @property
    def iwae_mcse(self) -> float:
        """Monte Carlo standard error of the mean IWAE at K over these cells, nats."""
        return _mcse((1 / self.efficiency - 1) / self.draws)

    @property
    def gap(self) -> Tensor:
        """Gap between IWAE and ELBO, nats, (N,)."""
        return self.iwae - self.elbo

    @property
    def untrusted(self) -> Tensor:
        """Whether estimates from the weights of a cell are unreliable, (N,) bool.

        Pareto k is above 0.7, and the weights are not nearly equal.
        """
        return (self.pareto_k > HIGH) & (self.efficiency < EQUAL)

    def worst(self, number: int = 10) -> Tensor:
        """Positions of the cells with the largest gap between IWAE and ELBO.

        The gap is in nats, while k is an estimate with an error of 0.1 and more.
        """
        return self.gap.argsort(descending=True)[:number]


@torch.no_grad()
def weights(
    model: nn.Module, guide: nn.Module, batches: Iterable[Batch], *, draws: int = 1000
) -> Weights:
    """Importance weights of a guide's posteriors, summarised by cell.

    The weights of one minibatch are held at a time. Sites that all cells share are drawn once.

    Parameters
    ----------
    model, guide
        A fitted pair.
    batches
        Minibatches of the N cells.
    draws
        Importance draws K per cell, at least 100: the tail needs 20 of them.

    Raises
    ------
    ValueError
        For fewer than 100 draws.

    Examples
    --------
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.models import VAE
    >>> pair = VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2)
    >>> cells = {"x": torch.ones(8, 5), "library": torch.full((8, 1), 5.0)}
    >>> found = weights(*pair, [cells], draws=100)
    >>> found.pareto_k.shape, bool((found.gap >= 0).all())
    (torch.Size([8]), True)
    """
    _refuse_few(draws)
    model.eval(), guide.eval()
    shared, parts = None, []
    with seeded(SEED):
        for batch in batches:
            shared = shared_sites(guide, batch) if shared is None else shared
            with poutine.replay(trace=shared):
                parts.append(_of_batch(log_weights(model, guide, batch, draws)))
    return Weights(*map(torch.cat, zip(*parts, strict=True)))


def refined_weights(
    model: nn.Module,
    guide: nn.Module,
    batches: Iterable[Batch],
    *,
    draws: int = 1000,
    steps: int = 200,
) -> Weights:
    """Importance weights with per-cell refined posteriors: `weights` after `refine`.

    Parameters
    ----------
    model, guide, batches, draws
        As for `weights`.
    steps
        Gradient steps of the refinement.

    Raises
    ------
    ValueError
        For fewer than 100 draws, a discrete latent, and a story without a latent state of cells.
    """
    _refuse_few(draws)
    model.eval(), guide.eval()
    shared, parts = None, []
    with seeded(SEED):
        for batch in batches:
            shared = shared_sites(guide, batch) if shared is None else shared
            with refined_guide(model, guide, batch, steps=steps, shared=shared) as refined:
                parts.append(_of_batch(log_weights(model, refined, batch, draws)))
    return Weights(*map(torch.cat, zip(*parts, strict=True)))


def _refuse_few(draws: int) -> None:
    if draws < 100:
        raise ValueError(f"draws must be at least 100, to fit a tail: got {draws}.")


@torch.no_grad()
def log_weights(model: nn.Module, guide: nn.Module, batch: Batch, draws: int) -> Tensor:
    """Log importance weights of a minibatch, (K, N), nats; enumerated sites are summed over."""
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
    draws = torch.full_like(total, k)
    spread = log_w.var(0), draws
    bounds = log_w.mean(0), quarter, total - math.log(k)
    return Weights(pareto_k(log_w), efficiency, *bounds, *spread)


def _mcse(variances: Tensor) -> float:
    """Standard error of a mean over N cells of estimates of these variances, (N,)."""
    return (variances.clamp_min(0).sum().sqrt() / len(variances)).item()


def pareto_k(log_w: Tensor) -> Tensor:
    """Pareto k of log weights (K, N) of N cells, by ArviZ: (N,)."""
    _, k = psislw(log_w.T.cpu().numpy())
    return torch.as_tensor(k, device=log_w.device)


def quantiles(values: Tensor) -> dict[str, float]:
    """Quantiles of the finite values of N cells, by name; NaN where there are none.

    Examples
    --------
    >>> quantiles(torch.arange(101.0))
    {'q05': 5.0, 'q25': 25.0, 'q50': 50.0, 'q75': 75.0, 'q95': 95.0}
    """
    known = values[values.isfinite()].double()
    found = known.quantile(known.new_tensor(QUANTILES)) if len(known) else [math.nan] * 5
    return {f"q{round(100 * q):02d}": float(v) for q, v in zip(QUANTILES, found, strict=True)}


@dataclass(frozen=True)
class GuideHealth:
    """How well a guide approximates the posteriors of N cells, and how it uses its latents.

    Parameters
    ----------
    weights
        Importance weights of the N cells.
    use
        Posterior means (N, D) and KL per dimension, nats.
    surgery
        Decomposition of the KL by continuous site, over some of the cells.
    refined
        Importance weights of M cells with per-cell refined posteriors; None if M = 0 or a latent
        of cells is discrete.
    chosen
        Positions of these M cells, (M,).
    """

    weights: Weights
    use: LatentUse
    surgery: dict[str, Surgery]
    refined: Weights | None
    chosen: Tensor

    @property
    def amortisation_gap(self) -> Tensor | None:
        """ELBO of the refined posterior minus that of the guide, nats, (M,)."""
        return None if self.refined is None else self.refined.elbo - self.weights.elbo[self.chosen]

    def worst(self, number: int = 10) -> Tensor:
        """Positions of the cells with the largest gap between IWAE and ELBO."""
        return self.weights.worst(number)

    def summary(self) -> dict[str, float]:
        """Means and quantiles over cells by name; bounds and KL in nats."""
        cells = {"cells": len(self.weights.elbo)} | _figures(self.weights)
        latent = {"kl": self.use.kl.sum().item(), "active_units": self.use.active_units}
        for site, parts in self.surgery.items():
            latent |= {f"{site}_{name}": float(v) for name, v in parts._asdict().items()}
        return cells | latent | self._refined_figures()

    def _refined_figures(self) -> dict[str, float]:
        gap, before = self.amortisation_gap, Weights(*(v[self.chosen] for v in self.weights))
        if self.refined is None or gap is None:
            return {}
        sides = {"amortised_": before, "refined_": self.refined}  # of the same cells
        found = {f"{side}{k}": v for side, w in sides.items() for k, v in _figures(w).items()}
        se = standard_error(gap)
        return {"amortisation_gap": gap.mean().item(), "amortisation_gap_se": se} | found


def _figures(found: Weights) -> dict[str, float]:
    bounds = {name: getattr(found, name) for name in ("elbo", "iwae_quarter", "iwae", "gap")}
    shapes = {name: getattr(found, name) for name in ("pareto_k", "efficiency")}
    return (
        {name: value.mean().item() for name, value in bounds.items()}
        | {f"{name}_{q}": v for name, value in shapes.items() for q, v in quantiles(value).items()}
        | {"untrusted": found.untrusted.double().mean().item()}
    )


def guide_health(
    model: nn.Module,
    guide: nn.Module,
    sweep: Callable[[], Iterable[Batch]],
    *,
    draws: int = 1000,
    refined: int = 100,
    pairs: int = 1000,
    objective: Callable[..., Objective] = ELBO,
) -> GuideHealth:
    """Importance weights, latent use and KL of a guide on some cells.

    Time is that of `draws` passes through all cells. What is held are the weights and counts of a
    minibatch and the counts of `pairs` cells. Sites that all cells share are drawn once and held.

    Parameters
    ----------
    model, guide
        A fitted pair.
    sweep
        Function that returns minibatches of the N cells.
    draws
        Importance draws per cell, at least 100.
    refined
        Number of cells, spread evenly, whose posteriors are refined as well.
    pairs
        Number of cells, spread evenly, that `surgery` compares two by two.
    objective
        Bound that the KL is taken from.

    Raises
    ------
    ValueError
        For fewer than 100 draws, and for a story without a latent state of cells.

    Examples
    --------
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.models import VAE
    >>> pair = VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2)
    >>> cells = {"x": torch.ones(8, 5), "library": torch.full((8, 1), 5.0)}
    >>> health = guide_health(*pair, lambda: [cells], draws=100, refined=0)
    >>> [name for name in health.summary() if name.startswith("z_")]
    ['z_kl', 'z_information', 'z_aggregate', 'z_cells']
    """
    model.eval(), guide.eval()
    with seeded(SEED):
        shared = shared_sites(guide, next(iter(sweep())))
    with poutine.replay(trace=shared):
        found = weights(model, guide, sweep(), draws=draws)
        use = latent_use(objective(model, guide, cells=math.inf), sweep())
        chosen, some = (_spread(len(found.elbo), number) for number in (refined, pairs))
        split = surgery(model, guide, _rows(sweep(), some))
        better = None
        if refined:
            with suppress(DiscreteLatent):
                better = refined_weights(model, guide, _rows(sweep(), chosen), draws=draws)
    return GuideHealth(found, use, split, better, chosen)


def _spread(cells: int, number: int) -> Tensor:
    """Positions of `number` cells, evenly spaced: cells may be sorted by type."""
    return torch.linspace(0, cells - 1, min(cells, number), dtype=torch.float64).long()


def _rows(batches: Iterable[Batch], positions: Tensor) -> Iterator[dict[str, Tensor]]:
    """Minibatches of the cells at these ascending positions."""
    start = 0
    for batch in batches:
        end = start + len(batch["library"])
        here = positions[(positions >= start) & (positions < end)] - start
        if len(here):
            yield {name: value[here.to(value.device)] for name, value in batch.items()}
        start = end
