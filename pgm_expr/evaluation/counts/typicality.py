r"""Is a cell unusual? Its bound beside those of cells that the story draws at the same depth.

    s_n = bound on log p(x_n | library_n), nats, less a polynomial in log library
    p_n = share of drawn cells of about that library whose s is as low
    z_n = (s_n - their median) / (half of what lies between their 16% and 84% quantiles)

Deep cells have lower likelihoods whatever they are (under the true model the rank correlation of
log p and depth is near -1), so raw likelihoods rank cells by depth. Drawn cells go through the
guide as real ones do: an encoder's faults are on both sides. Under the story p is uniform; a small
p says that the story would hardly draw such a cell, not what is odd about it.

Nalisnick et al., Detecting out-of-distribution inputs using typicality, 2019,
https://arxiv.org/abs/1906.02994
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ...inference import ELBO, Objective, seeded
from ...predict import SEED, Batch, draw_prior
from ..bounds.held_out import elbo

Pair = tuple[np.ndarray, np.ndarray]  # of the cells, and of the drawn ones
DEGREE = 4  # of the polynomial that the bounds of drawn cells follow
ALIKE = 200  # drawn cells of about the same library


class Typicality(NamedTuple):
    """How typical N cells are of a story."""

    score: np.ndarray  # (N,) z, standard deviations above what the depth lets expect
    p: np.ndarray  # (N,) share of drawn cells that are as untypical; small is unusual
    bound: np.ndarray  # (N,) nats


def typicality(
    model: nn.Module,
    guide: nn.Module,
    batches: Iterable[Batch],
    *,
    replicates: int = 4,
    objective: Callable[..., Objective] = ELBO,
) -> Typicality:
    """Depth-conditional typicality of cells, beside `replicates` drawn cells for each.

    A drawn cell is told the library, batch and covariates of one of the cells. Its counts sum to
    that library in expectation alone, those of real cells exactly, which makes real cells a
    little more typical where genes are few. ValueError for fewer than 50 drawn cells.
    """
    kept = list(batches)
    cells = sum(len(batch["library"]) for batch in kept)
    if cells * replicates < 50:
        raise ValueError(
            f"typicality needs 50 drawn cells to compare with: got {cells} cells x {replicates}. "
            "Raise `replicates`."
        )
    with seeded(SEED + 1):  # not the noise that bounds are estimated with
        drawn = [{**b, "x": draw_prior(model, [b])} for _ in range(replicates) for b in kept]
    bounds, depths = zip(
        *((_bound(model, guide, b, objective), _depth(b)) for b in (kept, drawn)), strict=True
    )
    own, null = _detrended(bounds, depths)
    (low, middle, high), p = _beside(own, null, *depths)
    return Typicality((own - middle) / ((high - low) / 2).clip(1e-12), p, bounds[0])


def _bound(
    model: nn.Module, guide: nn.Module, batches: list[Batch], objective: Callable[..., Objective]
) -> np.ndarray:
    return elbo(model, guide, batches, objective).double().cpu().numpy()


def _depth(batches: list[Batch]) -> np.ndarray:
    return torch.cat([batch["library"] for batch in batches]).log().squeeze(-1).cpu().numpy()


def _detrended(bounds: Pair, depths: Pair) -> Pair:
    """Bounds of the cells and of the drawn ones less what drawn ones have at their depth."""
    usual = np.polynomial.Polynomial.fit(depths[1], bounds[1], DEGREE)
    low, high = depths[1].min(), depths[1].max()  # nothing is extrapolated
    own, null = (b - usual(d.clip(low, high)) for b, d in zip(bounds, depths, strict=True))
    return own, null


def _beside(
    own: np.ndarray, null: np.ndarray, depth: np.ndarray, null_depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """16, 50 and 84% quantiles (3, N) of the drawn cells nearest in depth, and the rank (N,)."""
    order, alike = np.argsort(null_depth), min(ALIKE, len(null))
    first = np.searchsorted(null_depth[order], depth) - alike // 2
    near = first.clip(0, len(null) - alike)[:, None] + np.arange(alike)
    window = null[order][near]  # (N, ALIKE)
    rank = (window <= own[:, None]).sum(1)
    return np.quantile(window, [0.16, 0.5, 0.84], axis=1), (1 + rank) / (1 + alike)
