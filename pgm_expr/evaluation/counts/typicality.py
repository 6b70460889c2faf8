r"""Typicality: the bound of a cell beside those of cells that the story draws at its depth.

    s_n = bound on log p(x_n | library_n), nats, less a polynomial in log library
    p_n = share of drawn cells of about that library whose s is as low
    z_n = (s_n - their median) / (half the distance of their 16% and 84% quantiles)

Deep cells have lower likelihoods whatever they are (under the true model the rank correlation of
log p and depth is near -1), so raw likelihoods rank cells by depth. Drawn cells pass through the
guide as real ones do: errors of an encoder are on both sides. Under the story p is uniform. A
small p means that the story would rarely draw such a cell, not why.

Nalisnick et al., Detecting out-of-distribution inputs using typicality, 2019,
https://arxiv.org/abs/1906.02994
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ...inference import ELBO, Objective
from ...predict import Batch
from ..bounds.held_out import elbo
from .replicates import prior_replicates

Pair = tuple[np.ndarray, np.ndarray]  # of the cells, and of the drawn ones
DEGREE = 4  # of the polynomial that the bounds of drawn cells follow
ALIKE = 200  # drawn cells of about the same library


class Typicality(NamedTuple):
    """How typical N cells are of a story.

    Parameters
    ----------
    score
        z, standard deviations above the median at the depth of the cell, (N,).
    p
        Share of drawn cells that are as atypical, (N,); small is unusual.
    bound
        Nats, (N,).
    """

    score: np.ndarray
    p: np.ndarray
    bound: np.ndarray


def typicality(
    model: nn.Module,
    guide: nn.Module,
    batches: Iterable[Batch],
    *,
    replicates: int = 4,
    objective: Callable[..., Objective] = ELBO,
    totals: bool = True,
) -> Typicality:
    """Typicality of cells given their depth, beside drawn cells.

    A drawn cell has the batch and covariates of one of the cells, and a like library. It is judged
    at the total of its own counts, as real cells are.

    Parameters
    ----------
    model, guide
        A fitted pair.
    batches
        Minibatches of the N cells.
    replicates
        Drawn cells per cell.
    objective
        Which bound to take.
    totals
        Whether the library of a cell is the total of its counts.

    Raises
    ------
    ValueError
        For fewer than 50 drawn cells.

    Examples
    --------
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.models import VAE
    >>> pair = VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2)
    >>> x = 1.0 + torch.arange(100.0).view(20, 5) % 7
    >>> found = typicality(*pair, [{"x": x, "library": x.sum(-1, keepdim=True)}])
    >>> found.p.shape, bool((found.p > 0).all())
    ((20,), True)
    """
    kept = list(batches)
    cells = sum(len(batch["library"]) for batch in kept)
    if cells * replicates < 50:
        raise ValueError(
            f"typicality needs 50 drawn cells to compare with: got {cells} cells x {replicates}. "
            "Raise `replicates`."
        )
    drawn = prior_replicates(model, [*kept] * replicates, totals=totals)
    ours, theirs = (
        elbo(model, guide, side, objective).double().cpu().numpy() for side in (kept, drawn)
    )
    depths = _depth(kept), _depth(drawn)
    score, null = _detrended((ours, theirs), depths)
    (low, middle, high), p = _beside(score, null, *depths)
    return Typicality((score - middle) / ((high - low) / 2).clip(1e-12), p, ours)


def _depth(batches: list[Batch]) -> np.ndarray:
    return torch.cat([batch["library"] for batch in batches]).log().squeeze(-1).cpu().numpy()


def _detrended(bounds: Pair, depths: Pair) -> Pair:
    """Bounds of the cells and of the drawn ones less what drawn ones have at their depth."""
    usual = np.polynomial.Polynomial.fit(depths[1], bounds[1], DEGREE)
    low, high = depths[1].min(), depths[1].max()  # nothing is extrapolated
    ours, theirs = (b - usual(d.clip(low, high)) for b, d in zip(bounds, depths, strict=True))
    return ours, theirs


def _beside(
    score: np.ndarray, null: np.ndarray, depth: np.ndarray, null_depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """16, 50 and 84% quantiles (3, N) of the drawn cells nearest in depth, and the rank (N,)."""
    order, alike = np.argsort(null_depth), min(ALIKE, len(null))
    first = np.searchsorted(null_depth[order], depth) - alike // 2
    near = first.clip(0, len(null) - alike)[:, None] + np.arange(alike)
    window = null[order][near]  # (N, ALIKE)
    rank = (window <= score[:, None]).sum(1)
    return np.quantile(window, [0.16, 0.5, 0.84], axis=1), (1 + rank) / (1 + alike)
