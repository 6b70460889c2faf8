"""Log2 fold changes between two groups, from counts to posterior."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import sparse

from ..counts.statistics import Counts
from . import shrinkage
from .curves import curves
from .dispersion import dispersions
from .effect import LEVELS, Effect
from .noise import shared_noise
from .normalise import sizes
from .profiles import Profiles

SMALL = 3.0  # each group of n cells adds SMALL / n to the share of variance that is not known


def fold_changes(
    x: Counts,
    group: np.ndarray,
    genes: Sequence[str],
    *,
    unit: np.ndarray | None = None,
    block: np.ndarray | None = None,
    relative: np.ndarray | None = None,
    threshold: float = 0.0,
) -> Effect:
    r"""Posterior log2 fold changes of group 1 over group 0.

    A negative binomial with dispersions shrunk to their trend gives each effect its likelihood; a
    mixture of normals about 0, fitted to all genes, shrinks them (see `profiles`, `dispersion`,
    `curves`, `shrinkage`).

    Parameters
    ----------
    x
        Counts of profiles (cells, or sums by replicate), (n, G).
    group
        0 or 1, (n,).
    genes
        Names, (G,).
    unit
        Profiles of one unit share a normalisation factor, (n,); the groups by default.
    block
        Profiles of one block are compared with each other, (n,): the donor of a paired design.
    relative
        Expected expression of each profile under a fitted story, on any scale, (n, G).
    threshold
        Size of log2 fold changes that count as changed, for `lfsr`.

    Examples
    --------
    >>> rate = np.full((60, 40), 5.0)
    >>> rate[30:, :4] = 25.0
    >>> counts = np.random.default_rng(0).poisson(rate)
    >>> found = fold_changes(counts, np.repeat([0, 1], 30), [f"g{i}" for i in range(40)])
    >>> found.called().nonzero()[0].tolist()
    [0, 1, 2, 3]
    """
    x, group = sparse.csr_array(x).astype(np.float64), np.asarray(group)
    size = sizes(x, group if unit is None else unit)
    seen = np.flatnonzero(np.asarray(x.sum(0)).ravel() > 0)
    beside = None if relative is None else _beside(relative[:, seen], group)
    profiles = Profiles(sparse.csr_array(x[:, seen]), size, group, block, beside)
    noise = None if beside is None else shared_noise(beside, group)
    spread = None if noise is None else (noise**2).sum(1).sqrt()
    found, wider = curves(profiles, dispersions(profiles), spread), 1.0
    if noise is not None:
        wider = (1 + sum(SMALL / (group == side).sum() for side in (0, 1))) ** 0.5
        noise, spread = noise * wider, spread * wider
    found = found.widened(wider)
    posterior = shrinkage.shrink(found, noise, widen=block is None)  # pairs cancel programs
    se = found.se if spread is None else (found.se**2 + spread**2).sqrt()
    return _effect(posterior, found.raw, se, genes, seen, threshold * np.log(2))


def _beside(relative: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Expression beside the mean of the group."""
    found = relative.astype(np.float64)
    for side in (0, 1):
        found[group == side] /= found[group == side].mean(0)
    return found


def _effect(
    posterior: shrinkage.Posterior,
    raw: torch.Tensor,
    se: torch.Tensor,
    genes: Sequence[str],
    seen: np.ndarray,
    threshold: float,
) -> Effect:
    """In log2, with genes without counts at no change that nothing is known of."""
    mean, sd, lfsr = shrinkage.summarise(posterior, threshold)
    quantiles = shrinkage.quantiles(posterior, LEVELS)
    columns = (
        _all(values.numpy() / np.log(2), seen, len(genes), np.nan)
        for values in (mean, sd, raw, se)
    )
    centre, deviation, estimate, error = columns
    wide = np.stack([_all(q / np.log(2), seen, len(genes), np.nan) for q in quantiles])
    rates = _all(lfsr.numpy(), seen, len(genes), 1.0)
    return Effect(genes, centre, deviation, wide, rates, estimate, error)


def _all(values: np.ndarray, seen: np.ndarray, genes: int, absent: float) -> np.ndarray:
    found = np.full(genes, absent)
    found[seen] = values
    return found
