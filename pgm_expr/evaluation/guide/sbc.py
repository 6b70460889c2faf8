r"""Simulation-based calibration (SBC): does the guide recover states of simulated cells?

    z*, x* ~ p(z, x | library, ...),   z_l ~ q(z | x*),  l = 1 ... L
    u_d    = (#{z_ld < z*_d} + v) / (L + 1),   v ~ U(0, 1)         for each latent dimension d

If q is the posterior, u_d is uniform over cells. Narrow posteriors give too many u near 0 and 1,
wide ones too many near 1/2, biased ones too many at one end. A guide that ignores x and equals the
prior passes for every d. It fails for the rank of log p(x*, z*) among the draws, which is checked
too (Modrak et al.).

Each empirical distribution function is compared with simultaneous bands, which a uniform sample
leaves with probability alpha / (number of quantities): a correct guide is flagged with probability
alpha at most. Coverage is the share of true values in the guide's central intervals.

Talts et al., 2018, https://arxiv.org/abs/1804.06788
Modrak et al., Bayesian Analysis 2023, https://doi.org/10.1214/23-BA1404
Sailynoja et al., Statistics and Computing 2022, https://doi.org/10.1007/s11222-022-10090-6
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from pyro import poutine
from pyro.poutine import Trace
from scipy import stats
from torch import Tensor, nn

from ...inference import seeded
from ...inference.tracing import log_prob, sample_sites, total, trace, within_cells
from ...predict import SEED, Batch
from ..bounds.held_out import ENTRIES
from .sites import no_states, shared_sites

JOINT = "log p(x, z)"
LEVELS = np.linspace(0.1, 0.9, 9)
POINTS, SIMULATED = 50, 4000  # grid points of an ECDF; uniform samples that give the bands


@dataclass(frozen=True)
class Calibration:
    """Ranks of true values among the guide's draws: uniform on (0, 1) for a correct guide.

    Parameters
    ----------
    ranks
        By quantity (`z[0]`, ..., and `log p(x, z)`), (n,) of n cells each.
    alpha
        Probability that a correct guide is flagged.
    """

    ranks: dict[str, np.ndarray]
    alpha: float

    @property
    def coverage(self) -> dict[str, np.ndarray]:
        """Share of true values in the central intervals of `LEVELS`, by latent dimension."""
        return {name: _coverage(u) for name, u in self.ranks.items() if name != JOINT}

    @property
    def error(self) -> float:
        """Largest |coverage - level| over levels and latent dimensions."""
        return max(float(np.abs(each - LEVELS).max()) for each in self.coverage.values())

    @property
    def pooled_error(self) -> float:
        """Largest |coverage - level| over levels, all latent dimensions pooled."""
        return float(np.abs(np.mean([*self.coverage.values()], axis=0) - LEVELS).max())

    @property
    def bias(self) -> dict[str, float]:
        """Mean of u minus 1/2, by quantity: above 0 where draws are too low."""
        return {name: float(u.mean() - 0.5) for name, u in self.ranks.items()}

    @property
    def deviation(self) -> dict[str, float]:
        """Range of the ECDF minus x beyond that of uniform ranks, by quantity, 0 at least.

        A shift counts as much as a wrong scale (Kuiper's statistic less its mean).
        """
        n = len(next(iter(self.ranks.values())))
        gaps = {name: np.append(_counts(u) / n - _grid(), 0.0) for name, u in self.ranks.items()}
        usual = (np.pi / (2 * n)) ** 0.5
        return {name: max(0.0, float(np.ptp(g)) - usual) for name, g in gaps.items()}

    @property
    def p(self) -> dict[str, float]:
        """p-value of the ECDF under a correct guide, by quantity."""
        return {name: _p(u) for name, u in self.ranks.items()}

    @property
    def flagged(self) -> list[str]:
        """Quantities whose ECDF leaves the bands; with probability alpha for a correct guide."""
        return [name for name, p in self.p.items() if p < self.alpha / len(self.ranks)]

    def ecdf(self) -> dict[str, np.ndarray]:
        """Curves to plot: `x`, ECDF minus x by quantity, `low` and `high` of the joint bands."""
        n = len(next(iter(self.ranks.values())))
        x, gamma = _grid(), np.quantile(_smallest(n), self.alpha / len(self.ranks))
        tails = (stats.binom.ppf(q, n, x) / n - x for q in (gamma / 2, 1 - gamma / 2))
        low, high = tails
        curves = {name: _counts(u) / n - x for name, u in self.ranks.items()}
        return {"x": x, "low": low, "high": high} | curves


@torch.no_grad()
def sbc(
    model: nn.Module,
    guide: nn.Module,
    batches: Iterable[Batch],
    *,
    draws: int = 99,
    alpha: float = 0.05,
) -> Calibration:
    """Simulation-based calibration of a guide, on one simulated cell for each cell given.

    Only ranks are kept. Sites that all cells share are drawn from the guide once and fixed, so the
    posteriors of cells are checked, not theirs. Ties of a discrete latent are broken at random.

    Parameters
    ----------
    model, guide
        A fitted pair.
    batches
        Minibatches of n cells, which provide library, batch and covariates; their counts are not
        used.
    draws
        Draws L of the guide per cell.
    alpha
        Probability that a correct guide is flagged.

    Raises
    ------
    ValueError
        For a story without a latent state of cells.

    Examples
    --------
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.models import VAE
    >>> pair = VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2)
    >>> cells = {"x": torch.ones(8, 5), "library": torch.full((8, 1), 5.0)}
    >>> found = sbc(*pair, [cells], draws=20)
    >>> sorted(found.ranks), found.ranks["z[0]"].shape
    (['log p(x, z)', 'z[0]', 'z[1]'], (8,))
    """
    model.eval(), guide.eval()
    with seeded(SEED):
        parts, shared = [], None
        for batch in batches:
            shared = shared_sites(guide, batch) if shared is None else shared
            with poutine.replay(trace=shared):
                parts += [_ranks(model, guide, part, draws) for part in _split(batch, draws)]
    if not {*parts[0]} - {JOINT}:
        raise no_states(model)
    ranks = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Calibration(ranks, alpha)


def _split(batch: Batch, draws: int) -> Iterator[Batch]:
    """Parts of a minibatch of at most `ENTRIES` draws x cells x genes."""
    size = max(1, ENTRIES // (draws * batch["x"].shape[-1]))
    for at in torch.arange(len(batch["library"])).split(size):
        yield {name: value[at.to(value.device)] for name, value in batch.items()}


def _ranks(model: nn.Module, guide: nn.Module, batch: Batch, draws: int) -> dict[str, np.ndarray]:
    truth = trace(model, {name: value for name, value in batch.items() if name != "x"})
    true: Mapping[str, Any] = truth.nodes
    seen: Batch = {**batch, "x": true["x"]["value"]}
    guided = trace(guide, seen, draws)
    ranks: dict[str, np.ndarray] = {}
    for site in sample_sites(guided):
        if within_cells(site):
            ranks |= _of_site(site["name"], true[site["name"]]["value"], site["value"])
    joints = trace(model, seen, at=truth), trace(model, seen, draws, at=guided)
    ranks[JOINT] = _rank(*map(_log_joint, joints))
    return ranks


def _of_site(name: str, truth: Tensor, drawn: Tensor) -> dict[str, np.ndarray]:
    """Ranks of each dimension of a latent: truth (N, D) or (N,), draws (L, N, D) or (L, N)."""
    cells = drawn.shape[1]
    columns = truth.reshape(cells, -1).unbind(-1), drawn.reshape(*drawn.shape[:2], -1).unbind(-1)
    names = [name] if truth.dim() == 1 else [f"{name}[{d}]" for d in range(len(columns[0]))]
    return {n: _rank(*pair) for n, *pair in zip(names, *columns, strict=True)}


def _rank(truth: Tensor, drawn: Tensor) -> np.ndarray:
    """u of truth (N,) among draws (L, N)."""
    below, equal = (drawn < truth).sum(0), (drawn == truth).sum(0)
    v = torch.rand(truth.shape, device=truth.device)
    return ((below + v * (1 + equal)) / (1 + len(drawn))).double().cpu().numpy()


def _log_joint(recorded: Trace) -> Tensor:
    """log p of all sites of a cell, (N,) or (L, N)."""
    return total(log_prob(site) for site in sample_sites(recorded) if within_cells(site))


def _coverage(u: np.ndarray) -> np.ndarray:
    return (np.abs(u[:, None] - 0.5) < LEVELS / 2).mean(0)


def _grid() -> np.ndarray:
    return np.arange(1, POINTS) / POINTS


def _counts(u: np.ndarray) -> np.ndarray:
    """Number of u (n,) at or below each point of the grid, (POINTS - 1,)."""
    return np.searchsorted(np.sort(u), _grid(), side="right")


def _two_sided(counts: np.ndarray, n: int) -> np.ndarray:
    """Twice the smaller tail of the binomial at each point."""
    below, above = stats.binom.cdf(counts, n, _grid()), stats.binom.sf(counts - 1, n, _grid())
    return np.minimum(2 * np.minimum(below, above), 1)


@cache
def _smallest(n: int) -> np.ndarray:
    """The smallest pointwise p of each of many uniform samples of n, sorted."""
    rng = np.random.default_rng(0)
    cells = rng.multinomial(n, np.full(POINTS, 1 / POINTS), SIMULATED)
    return np.sort(_two_sided(cells.cumsum(1)[:, :-1], n).min(1))


def _p(u: np.ndarray) -> float:
    smallest = _two_sided(_counts(u), len(u)).min()
    null = _smallest(len(u))
    return float((1 + np.searchsorted(null, smallest, side="right")) / (1 + len(null)))
