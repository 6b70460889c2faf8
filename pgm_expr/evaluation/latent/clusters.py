"""Clusters of latent states: a mixture of Gaussians, their number by BIC."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

CANDIDATES = range(1, 16)  # numbers of components that are tried
STARTS = 3  # of each number, by k-means; the best is kept


class Clusters(NamedTuple):
    """Clusters of n cells.

    Parameters
    ----------
    labels
        Cluster of each cell, (n,), 0 to components - 1.
    components
        Number of clusters.
    bic
        By number of components tried; lower is better.
    """

    labels: np.ndarray
    components: int
    bic: dict[int, float]


def find_clusters(
    latent: np.ndarray, candidates: Iterable[int] = CANDIDATES, *, seed: int = 0
) -> Clusters:
    """Cluster latent states: Gaussians with full covariances, their number by BIC.

    Parameters
    ----------
    latent
        States, (n, D).
    candidates
        Numbers of components to try; those above the number of cells are left out.
    seed
        Of the start values.

    Raises
    ------
    ValueError
        For states that are not finite.

    References
    ----------
    Schwarz, Annals of Statistics 1978, https://doi.org/10.1214/aos/1176344136

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(60, 2))
    >>> find_clusters(noise + np.repeat([[-9.0], [9.0]], 30, axis=0), range(1, 4)).components
    2
    """
    latent = np.asarray(latent, np.float64)
    if latent.ndim != 2 or not np.isfinite(latent).all():
        raise ValueError(
            f"latents must be finite numbers of shape (n, D): got shape {latent.shape}. "
            "Check the fit first."
        )
    tried = {k: _fitted(latent, k, seed) for k in candidates if k <= len(latent)}
    bic = {k: float(mixture.bic(latent)) for k, mixture in tried.items()}
    best = min(bic, key=lambda components: bic[components])
    return Clusters(tried[best].predict(latent), best, bic)


def agreement(clusters: np.ndarray, types: np.ndarray) -> float:
    """Adjusted Rand index of clusters with known types: 1 is equal, chance gives 0.

    Parameters
    ----------
    clusters
        (n,).
    types
        Integer codes, (n,); cells of type -1 are left out.

    References
    ----------
    Hubert and Arabie, Journal of Classification 1985, https://doi.org/10.1007/BF01908075

    Examples
    --------
    >>> agreement(np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1]))
    1.0
    """
    clusters, types = np.asarray(clusters), np.asarray(types)
    return float(adjusted_rand_score(types[types != -1], clusters[types != -1]))


def _fitted(latent: np.ndarray, components: int, seed: int) -> GaussianMixture:
    return GaussianMixture(components, n_init=STARTS, random_state=seed).fit(latent)
