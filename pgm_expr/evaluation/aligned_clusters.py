"""Clusters of cells up to a shift of each condition: k-means of y_n - shift_c(n).

Latent states of a conditional story pair cells of different types where the condition follows the
type. Alternating least squares of log expression on cluster and condition,

    y_n = centre_k(n) + shift_c(n) + noise,

started from clusters of the states, removes most of these pairs: a shift common to all clusters
explains the effect of a condition, but not a difference between types.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ROUNDS = 20
RIDGE = 1e-3  # observations' worth of shrinkage to 0, for empty clusters


@dataclass(frozen=True)
class AlignedClusters:
    """Centres of clusters (K, D) and shifts of levels (L, D)."""

    centres: np.ndarray
    shifts: np.ndarray

    def predict(self, y: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Nearest centre of each cell, its shift removed, (N,).

        Parameters
        ----------
        y
            Log expression, or components of it, (N, D).
        levels
            Codes of the level of each cell, (N,).
        """
        rest = y - self.shifts[levels]
        return ((self.centres**2).sum(1) - 2 * rest @ self.centres.T).argmin(1)


def align_clusters(
    y: np.ndarray, clusters: np.ndarray, levels: np.ndarray, number: int
) -> AlignedClusters:
    """Refine clusters (N,) of cells of several levels (N,); `number` levels in all.

    Examples
    --------
    >>> noise = np.random.default_rng(0)
    >>> types, levels = np.repeat([0, 1], 100), np.tile([0, 1], 100)
    >>> y = 9.0 * np.eye(2)[types] + np.array([0.0, 5.0])[levels][:, None]
    >>> start = np.where(noise.random(200) < 0.3, 1 - types, types)
    >>> found = align_clusters(y + noise.normal(size=y.shape), start, levels, 2)
    >>> bool((found.predict(y, levels) == types).all())
    True
    """
    size = int(clusters.max()) + 1
    for _ in range(ROUNDS):
        found = _least_squares(y, clusters, levels, (size, number))
        after = found.predict(y, levels)
        if (after == clusters).all():
            break
        clusters = after
    return found


def _least_squares(
    y: np.ndarray, clusters: np.ndarray, levels: np.ndarray, shape: tuple[int, int]
) -> AlignedClusters:
    """Centres and shifts; those of the first level are 0, and those of absent levels."""
    size, number = shape
    design = np.concatenate([np.eye(size)[clusters], np.eye(number)[levels][:, 1:]], 1)
    gram = design.T @ design + RIDGE * np.eye(design.shape[1])
    found = np.linalg.solve(gram, design.T @ y)
    return AlignedClusters(found[:size], np.concatenate([0 * y[:1], found[size:]]))
