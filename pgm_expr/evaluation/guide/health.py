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
Where all weights of a cell are the same, as for the exact posterior, there is no tail to fit and
ArviZ says infinity; so it does where a few draws weigh all: `efficiency` tells them apart.

`guide_health` puts them beside what latents carry (`collapse`) and where the KL goes (`surgery`).

Vehtari et al., JMLR 2024, https://arxiv.org/abs/1507.02646
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from pyro import poutine
from torch import Tensor, nn

from ...inference import ELBO, IWAE, LatentUse, Objective, latent_use, seeded
from ...predict import SEED, Batch
from ..arviz import psislw
from ..bounds.held_out import ENTRIES, standard_error
from .refine import DiscreteLatent, refined_guide, shared_sites
from .surgery import Surgery, surgery

HIGH = 0.7  # a k above which an estimate from the weights is not to be trusted
EQUAL = 0.99  # but efficiency above this says that they are all alike, whatever k
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

    @property
    def untrusted(self) -> Tensor:
        """Whether a cell's weights are of no use, (N,): k above .7, and they are not all alike."""
        return (self.pareto_k > HIGH) & (self.efficiency < EQUAL)

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

    Weights of a minibatch are held at a time, never those of all cells. Sites that all cells
    share are drawn once. ValueError for fewer than 100 draws: the tail of the weights needs 20.
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
    """`weights` once the posterior of each cell is its own, see `refine`."""
    _refuse_few(draws)
    model.eval(), guide.eval()
    shared, parts = None, []
    with seeded(SEED):
        for batch in batches:
            shared = shared_sites(guide, batch) if shared is None else shared
            with refined_guide(model, guide, batch, steps=steps, shared=shared) as own:
                parts.append(_of_batch(log_weights(model, own, batch, draws)))
    return Weights(*map(torch.cat, zip(*parts, strict=True)))


def _refuse_few(draws: int) -> None:
    if draws < 100:
        raise ValueError(f"draws must be at least 100, to fit a tail: got {draws}.")


@torch.no_grad()
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
    _, k = psislw(log_w.T.cpu().numpy())
    return torch.as_tensor(k, device=log_w.device)


def quantiles(values: Tensor) -> dict[str, float]:
    """5, 25, 50, 75 and 95% quantiles by name; of the finite values, NaN where there are none."""
    known = values[values.isfinite()].double()
    found = known.quantile(known.new_tensor(QUANTILES)) if len(known) else [math.nan] * 5
    return {f"q{round(100 * q):02d}": float(v) for q, v in zip(QUANTILES, found, strict=True)}


@dataclass(frozen=True)
class GuideHealth:
    """How well a guide serves N cells, and what its latents carry."""

    weights: Weights  # of all N cells
    use: LatentUse  # posterior means (N, D) and KL per dimension, nats
    surgery: dict[str, Surgery]  # by continuous site, over some of the cells
    refined: Weights | None  # of M cells, each with its own posterior; None if M = 0 or discrete
    chosen: Tensor  # (M,) positions of these

    @property
    def amortisation_gap(self) -> Tensor | None:
        """Nats that a posterior of its own gains a cell, (M,)."""
        return None if self.refined is None else self.refined.elbo - self.weights.elbo[self.chosen]

    def worst(self, number: int = 10) -> Tensor:
        """Positions of the cells that the guide serves worst."""
        return self.weights.worst(number)

    def summary(self) -> dict[str, float]:
        """Figures by name: means and quantiles over cells, nats where they are bounds or KL."""
        cells = {"cells": len(self.weights.elbo)} | _figures(self.weights)
        latent = {"kl": self.use.kl.sum().item(), "active_units": self.use.active_units}
        for site, parts in self.surgery.items():
            latent |= {f"{site}_{name}": float(v) for name, v in parts._asdict().items()}
        return cells | latent | self._refined_figures()

    def _refined_figures(self) -> dict[str, float]:
        if self.refined is None:
            return {}
        gap, before = self.amortisation_gap, Weights(*(v[self.chosen] for v in self.weights))
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
    """The health of a guide on the cells that each call of `sweep` goes through.

    `draws` importance weights of each cell; `refined` of them, spread evenly, are given a
    posterior of their own as well, and `pairs` of them are looked at two by two for the
    `surgery`. Time is that of `draws` passes through all cells; weights and counts of a
    minibatch are held at a time, and the counts of `pairs` cells.
    Sites that all cells share are drawn once and held there.
    """
    model.eval(), guide.eval()
    with seeded(SEED):
        shared = shared_sites(guide, next(iter(sweep())))
    with poutine.replay(trace=shared):
        found = weights(model, guide, sweep(), draws=draws)
        use = latent_use(objective(model, guide, cells=math.inf), sweep())
        chosen, some = (_spread(len(found.elbo), number) for number in (refined, pairs))
        split = surgery(model, guide, _rows(sweep(), some))
        own = _own(model, guide, _rows(sweep(), chosen), draws) if refined else None
    return GuideHealth(found, use, split, own, chosen)


def _own(
    model: nn.Module, guide: nn.Module, batches: Iterable[Batch], draws: int
) -> Weights | None:
    """`refined_weights`, None where a latent of a cell is discrete."""
    try:
        return refined_weights(model, guide, batches, draws=draws)
    except DiscreteLatent:
        return None


def _spread(cells: int, number: int) -> Tensor:
    """Positions of `number` cells, evenly over all; cells may stand in the order of their kind."""
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
