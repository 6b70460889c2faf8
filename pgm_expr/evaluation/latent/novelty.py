r"""Is a cell's state new? How far its latent lies from those of known cells.

    mahalanobis   sqrt((z - m)' C^-1 (z - m)),  m and C the mean and covariance of known latents
    neighbours    mean Euclidean distance to the k nearest known latents

Both take posterior means, a row a cell, and need no likelihood; higher is stranger. They are not
free of depth: the states of shallow cells are drawn to the prior's mean. A kind that the encoder
does not tell from known ones lies among them, however odd its counts: `typicality` sees those.

Ledoit and Wolf, J. Multivariate Analysis 2004, https://doi.org/10.1016/S0047-259X(03)00096-4
"""

from __future__ import annotations

import numpy as np


def mahalanobis(known: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Distance of each latent asked about (N, D) from all known ones (M, D) together: (N,).

    In standard deviations; the covariance is shrunk as Ledoit and Wolf do, so that a dimension
    which is not in use does no harm.
    """
    from sklearn.covariance import LedoitWolf

    _check(known, asked, 2)
    return np.sqrt(LedoitWolf().fit(known).mahalanobis(asked))


def neighbour_distance(known: np.ndarray, asked: np.ndarray, neighbours: int = 10) -> np.ndarray:
    """Mean distance of each latent asked about (N, D) to its nearest known ones (M, D): (N,)."""
    from sklearn.neighbors import NearestNeighbors

    _check(known, asked, neighbours)
    distance, _ = NearestNeighbors(n_neighbors=neighbours).fit(known).kneighbors(asked)
    return distance.mean(1)


def _check(known: np.ndarray, asked: np.ndarray, least: int) -> None:
    if len(known) < least or known.shape[1:] != asked.shape[1:]:
        raise ValueError(
            f"novelty needs {least} known cells or more, of the same dimensions: got "
            f"{known.shape} known, {asked.shape} asked. Pass posterior means of training cells."
        )
