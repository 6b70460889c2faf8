r"""Novelty: the distance of a cell's state from those of known cells.

    mahalanobis   sqrt((z - m)' C^-1 (z - m)),  m and C the mean and covariance of known latents
    neighbours    mean Euclidean distance to the k nearest known latents

Both take posterior means, one row per cell, and need no likelihood; higher is more novel. They
depend on depth: states of shallow cells shrink to the prior's mean. A new type whose states the
encoder cannot distinguish from known ones is not detected, however unusual its counts: see
`typicality`.

Ledoit and Wolf, J. Multivariate Analysis 2004, https://doi.org/10.1016/S0047-259X(03)00096-4
"""

from __future__ import annotations

import numpy as np


def mahalanobis(known: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Mahalanobis distance of new states from the distribution of known ones.

    The covariance is shrunk by Ledoit and Wolf's estimator, so that dimensions not in use do no
    harm.

    Parameters
    ----------
    known
        States of known cells, (M, D).
    new
        States of new cells, (N, D).

    Returns
    -------
    ndarray
        Standard deviations, (N,).

    Raises
    ------
    ValueError
        For fewer than two known cells, and different dimensions.

    Examples
    --------
    >>> known = np.random.default_rng(0).normal(size=(500, 2))
    >>> near, far = mahalanobis(known, np.array([[0.0, 0.0], [9.0, 9.0]]))
    >>> bool(near < 1 < 9 < far)
    True
    """
    from sklearn.covariance import LedoitWolf

    _check(known, new, 2)
    return np.sqrt(LedoitWolf().fit(known).mahalanobis(new))


def neighbour_distance(known: np.ndarray, new: np.ndarray, neighbours: int = 10) -> np.ndarray:
    """Mean Euclidean distance of new states to the nearest known ones.

    Parameters
    ----------
    known
        States of known cells, (M, D).
    new
        States of new cells, (N, D).
    neighbours
        Number of nearest known cells.

    Returns
    -------
    ndarray
        (N,), in the units of the states.

    Raises
    ------
    ValueError
        For fewer known cells than neighbours, and different dimensions.

    Examples
    --------
    >>> neighbour_distance(np.array([[0.0], [1.0]]), np.array([[3.0]]), neighbours=2)
    array([2.5])
    """
    from sklearn.neighbors import NearestNeighbors

    _check(known, new, neighbours)
    distance, _ = NearestNeighbors(n_neighbors=neighbours).fit(known).kneighbors(new)
    return distance.mean(1)


def _check(known: np.ndarray, new: np.ndarray, least: int) -> None:
    if len(known) < least or known.shape[1:] != new.shape[1:]:
        raise ValueError(
            f"novelty needs {least} known cells or more, of the same dimensions: got "
            f"{known.shape} known, {new.shape} new. Pass posterior means of training cells."
        )
