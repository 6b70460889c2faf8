r"""A mean predictor with generated residuals: E[x | c] by any regressor, the rest by a generator.

Log values, `fit_values`:

    x_n = f(c_n) + r_n           f cross-fitted, r out of fold, see `predictors`
    r   = W s + e                s (D,) the leading principal scores, e_g ~ Normal(0, v_g)
    s   ~ a generator of this package, given c

A draw is f with its epistemic error plus a drawn r. Out-of-fold residuals contain the error of f
too, so r is shrunk by gene to the aleatoric variance. Drawn scores are rescaled to the mean and
variance of the scores of the fit. Without a generator the r_g are normal and independent, the
baseline "predictor + Gaussian".

Counts, `fit_counts`:

    share(c)  the regressor's E[x / library | c], at least a tenth of the pooled share
    x         the story `offset` with offset log share(c), given the library
    z         a generator of posterior states, given c; else Normal(0, I)

With few cells, posterior states are not distributed as the prior, and a generator of them predicts
better (benchmarks/hybrid.py).

Drawn log values can be negative, or lie between those of two counts; drawn counts are integers.
Both include the error of f, through out-of-fold residuals and offsets. The variation that c does
not explain is not only noise: it includes biology that c does not describe.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from pyro.distributions import TorchDistribution
from pyro.nn import PyroModule
from sklearn.base import RegressorMixin
from torch import Tensor, nn

from .. import zoo
from ..flow import SplineFlow
from ..inference import ELBO, Plan, fit, seeded, tracing
from ..nn import StateGenerator
from .predictors import CrossFitted, cross_fit

Builder = Callable[[int, int], StateGenerator]  # of the size of states and of conditions
PLAN = Plan(epochs=200, patience=30)
DRAWN = 10_000  # draws that estimate the moments of a generator
LEAST = 0.1  # lower bound of a predicted share, relative to the pooled share


@dataclass(frozen=True)
class Hybrid:
    """Log values: a predictor, and the distribution of its residuals."""

    predictor: CrossFitted
    center: Tensor  # (G,)
    components: Tensor  # (D, G) of residuals, D = 0 without a generator
    scale: Tensor  # (G,) standard deviation beyond the components
    shrink: Tensor  # (G,) sqrt(aleatoric / mean squared residual)
    generator: StateGenerator | None

    def predict(self, c: Tensor) -> Tensor:
        """E[x | c] of cells c (N, C): (N, G)."""
        return self.predictor.predict(c)

    @torch.no_grad()
    def sample(self, c: Tensor, draws: int, *, seed: int = 0) -> Tensor:
        """Values (draws, N, G) of new cells c (N, C); all cells of a draw share the error of f."""
        with seeded(seed):
            return self.predictor.draw(c, draws) + self._residuals(c, draws)

    def _residuals(self, c: Tensor, draws: int) -> Tensor:
        each = c.repeat(draws, 1)
        drawn = self.center + self.scale * torch.randn(len(each), len(self.scale))
        if self.generator is not None:
            drawn = drawn + self.generator.sample(len(each), each) @ self.components
        return (self.shrink * drawn).unflatten(0, (draws, len(c)))


def fit_values(
    c: Tensor,
    values: Tensor,
    regressor: RegressorMixin | None = None,
    generator: Builder | None = SplineFlow,
    *,
    components: int = 20,
    steps: int = 2000,
    seed: int = 0,
    **folds: Any,
) -> Hybrid:
    """Fit to cells c (N, C) with log values (N, G); `generator` is one of GENERATORS, or
    None for normal residuals.

    `folds` are the options of `cross_fit`, whose ValueErrors it raises. No more components are
    kept than there are genes.
    """
    predictor = cross_fit(c, values, regressor, seed=seed, **folds)
    residuals = predictor.residuals
    center = residuals.mean(0)
    shrink = (
        (predictor.aleatoric / residuals.square().mean(0).clamp_min(1e-30)).sqrt().clamp(max=1)
    )
    kept = min(components, *values.shape) if generator else 0
    axes = torch.linalg.svd(residuals - center, full_matrices=False)[2][:kept]  # (D, G)
    scores = (residuals - center) @ axes.T
    scale = (residuals - center - scores @ axes).std(0, correction=0)
    built = None
    if generator and kept:
        built = _learnt(generator, lambda: scores, c, steps, seed)
        mean, spread = _drawn_moments(built, c, seed)
        axes = axes * (scores.std(0) / spread)[:, None]
        center = center - mean @ axes
    return Hybrid(predictor, center, axes, scale, shrink, built)


@torch.no_grad()
def _drawn_moments(generator: StateGenerator, c: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) of what is drawn for the cells of the fit."""
    with seeded(seed):
        each = c.repeat(max(1, DRAWN // len(c)), 1)
        drawn = generator.sample(len(each), each)
    return drawn.mean(0), drawn.std(0).clamp_min(1e-12)


def _learnt(
    build: Builder, draw: Callable[[], Tensor], c: Tensor, steps: int, seed: int
) -> StateGenerator:
    with seeded(seed):
        generator = build(draw().shape[1], c.shape[1])
    deque(generator.fit(draw, c, steps=steps, seed=seed), maxlen=0)
    return generator


@dataclass(frozen=True)
class CountHybrid:
    """Counts: a predictor of shares, and the story of the variation around them."""

    predictor: CrossFitted
    average: Tensor  # (G,) the pooled shares
    model: PyroModule  # of the story `offset`
    guide: PyroModule
    generator: StateGenerator | None

    def predict(self, c: Tensor, library: Tensor) -> Tensor:
        """Expected counts (N, G) of the predictor alone, of cells c (N, C), library (N, 1)."""
        return library * self.average * self.offset(c).exp()

    def offset(self, c: Tensor) -> Tensor:
        """log share(c) - log average, (N, G)."""
        return _offset(self.predictor.predict(c), self.average)

    @torch.no_grad()
    def counts(self, batch: Mapping[str, Tensor]) -> TorchDistribution:
        """p(x | z, c, library) at new states z of a minibatch: event shape (G,).

        The minibatch needs `condition`, `library` and `offset`. Each call draws new states, as
        `evaluation.counts.pit.predictions` requires.
        """
        given = _given(batch)
        return self._counts(self._states(given["condition"]), given)

    def sample(self, c: Tensor, library: Tensor, draws: int, *, seed: int = 0) -> Tensor:
        """Counts (draws, N, G) of new cells c (N, C) with libraries (N, 1)."""
        batch = {"condition": c, "library": library, "offset": self.offset(c)}
        with seeded(seed):
            return torch.stack([self.counts(batch).sample() for _ in range(draws)])

    @torch.no_grad()
    def log_score(self, batch: Mapping[str, Tensor], *, draws: int = 500, seed: int = 0) -> Tensor:
        """log p(x | c, library) of all genes, (N,) nats, by importance sampling: a lower bound.

        The minibatch holds `x` too. With a generator it must have a `log_prob`.
        """
        weights = []
        with seeded(seed):
            for _ in range(draws):
                q = _site(self.guide, batch)
                z = q["value"]
                x = self._counts(z, _given(batch)).log_prob(batch["x"])
                weights.append(x + self._log_prior(z, batch["condition"]) - q["fn"].log_prob(z))
        return torch.stack(weights).double().logsumexp(0) - math.log(draws)

    def _counts(self, z: Tensor, given: Mapping[str, Tensor]) -> TorchDistribution:
        eta = self.model.eta(z, given["condition"], given["offset"])
        return self.model.likelihood(eta, given["library"])

    def _states(self, c: Tensor) -> Tensor:
        if self.generator is not None:
            return self.generator.sample(len(c), c)
        return self.model.prior().sample((len(c),))

    def _log_prior(self, z: Tensor, c: Tensor) -> Tensor:
        if self.generator is not None:
            return self.generator.log_prob(z, c)
        return self.model.prior().log_prob(z)


def fit_counts(
    c: Tensor,
    x: Tensor,
    regressor: RegressorMixin | None = None,
    generator: Builder | None = SplineFlow,
    *,
    latent: int = 10,
    plan: Plan = PLAN,
    steps: int = 2000,
    seed: int = 0,
    **folds: Any,
) -> CountHybrid:
    """Fit to cells c (N, C) with counts x (N, G); a tenth of the cells decides when to stop.

    `generator` is one of GENERATORS, or None for states of the prior; `steps` are the generator's.
    `folds` are the options of `cross_fit`, whose ValueErrors it raises.
    """
    library = x.sum(-1, keepdim=True)
    average = (x.sum(0) + 0.5) / (x.sum(0) + 0.5).sum()
    predictor = cross_fit(c, x / library, regressor, seed=seed, **folds)
    out_of_fold = _offset(x / library - predictor.residuals, average)
    table = {"x": x, "library": library, "condition": c, "offset": out_of_fold}
    dims: dict[str, Any] = {"genes": x.shape[1], "conditions": c.shape[1], "average": average}
    with seeded(seed):
        pair = zoo.build(zoo.story("offset"), dims, latent=latent)
    model, guide = (cast(PyroModule, half) for half in pair)
    _train(model, guide, table, plan, seed)
    built = None
    if generator is not None:
        draw = torch.no_grad()(lambda: _site(guide, table)["value"])
        built = _learnt(generator, draw, c, steps, seed)
    return CountHybrid(predictor, average, model, guide, built)


def _site(guide: nn.Module, batch: Mapping[str, Tensor]) -> tracing.Site:
    """The latent site of a guide."""
    return cast(tracing.Site, tracing.trace(guide, batch).nodes["z"])


def _train(
    model: nn.Module, guide: nn.Module, table: Mapping[str, Tensor], plan: Plan, seed: int
) -> None:
    """Fit in place to a table of columns (N, ...); a tenth of the cells decides when to stop."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(table["x"])))
    held, kept = order.tensor_split([len(order) // 10])

    def batches(seed: int) -> list[dict[str, Tensor]]:
        noise = torch.Generator().manual_seed(seed)
        shuffled = kept[torch.randperm(len(kept), generator=noise)]
        return [_rows(table, at) for at in shuffled.split(plan.batch_size)]

    objective = ELBO(model, guide, cells=len(kept))
    deque(fit(objective, batches, lambda: [_rows(table, held)], plan), maxlen=0)


def _rows(table: Mapping[str, Tensor], at: Tensor) -> dict[str, Tensor]:
    return {name: column[at] for name, column in table.items()}


def _offset(share: Tensor, average: Tensor) -> Tensor:
    share = torch.maximum(share, LEAST * average)
    return (share / share.sum(-1, keepdim=True)).log() - average.log()


def _given(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: batch[name] for name in ("library", "offset", "condition")}
