"""Types of cells found in latents: a mixture of Gaussians, as many as the data bear."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

CANDIDATES = range(1, 16)  # numbers of components that are tried
STARTS = 3  # of each number, by k-means; the best is kept


class Clusters(NamedTuple):
    """A cluster for each cell, how many there are, and the BIC of each number tried."""

    labels: np.ndarray  # (n,) in 0..components-1
    components: int
    bic: dict[int, float]  # lower is better


def find_clusters(
    latent: np.ndarray, candidates: Iterable[int] = CANDIDATES, *, seed: int = 0
) -> Clusters:
    """Clusters of latents (n, D): Gaussians with full covariances, their number by BIC.

    Numbers of components above the number of cells are left out. ValueError for latents that
    are not finite.
    Schwarz, Annals of Statistics 1978, https://doi.org/10.1214/aos/1176344136
    """
    latent = np.asarray(latent, np.float64)
    if latent.ndim != 2 or not np.isfinite(latent).all():
        raise ValueError(
            f"latents must be finite numbers of shape (n, D): got shape {latent.shape}. "
            "Look at the fit first."
        )
    tried = {k: _fitted(latent, k, seed) for k in candidates if k <= len(latent)}
    bic = {k: float(mixture.bic(latent)) for k, mixture in tried.items()}
    best = min(bic, key=bic.get)
    return Clusters(tried[best].predict(latent), best, bic)


def agreement(clusters: np.ndarray, types: np.ndarray) -> float:
    """Adjusted Rand index of clusters with known types: 1 is equal, chance gives 0.

    Types are integer codes (n,), -1 = unknown; those cells are left out.
    Hubert and Arabie, Journal of Classification 1985, https://doi.org/10.1007/BF01908075
    """
    clusters, types = np.asarray(clusters), np.asarray(types)
    return float(adjusted_rand_score(types[types != -1], clusters[types != -1]))


def _fitted(latent: np.ndarray, components: int, seed: int) -> GaussianMixture:
    return GaussianMixture(components, n_init=STARTS, random_state=seed).fit(latent)
