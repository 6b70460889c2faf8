"""Mixing of batches among the nearest states: figures of scib-metrics, each beside chance.

    iLISI        effective number of batches among a cell's neighbours, scaled to 0 .. 1
    kBET         share of cells whose neighbours have the batches' overall proportions
    silhouette   1 - |silhouette of batches|, within labels

Higher is better mixed for each. The score of perfectly mixed batches depends on their numbers, and
for the first two on the distribution of batches over labels: `chance` is the mean over
permutations of batches within labels. Requires the package scib-metrics, an optional dependency.

Luecken et al., Nature Methods 2022, https://doi.org/10.1038/s41592-021-01336-8
"""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import NamedTuple

import numpy as np

from .leakage import share_reaching

NEIGHBOURS = 90  # of a cell, itself among them, as in the benchmark of scib-metrics
LEAST = 30  # cells


class Mixed(NamedTuple):
    """A figure of mixing, beside the same figure of batches permuted within labels.

    Parameters
    ----------
    score
        Higher is better mixed.
    chance
        Mean over permutations.
    p
        Share of permutations, and the data, that are as badly mixed.
    """

    score: float
    chance: float
    p: float


def mixing(
    z: np.ndarray,
    batches: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    permutations: int = 50,
    seed: int = 0,
) -> dict[str, Mixed]:
    """How well batches are mixed among states, within labels where given.

    Parameters
    ----------
    z
        States, (N, D).
    batches
        (N,).
    labels
        (N,); one label by default.
    permutations
        Number of permutations.
    seed
        Of the permutations.

    Returns
    -------
    dict
        `iLISI`, `kBET` and `silhouette`.

    Raises
    ------
    ValueError
        Where scib-metrics is not installed, for fewer than 30 cells, where no label has two
        batches, and where a figure is NaN.
    """
    scib = _scib_metrics()
    labels = np.zeros(len(z), int) if labels is None else np.asarray(labels)
    batches = np.asarray(batches)
    _check(batches, labels)
    near = _neighbours(scib, z)
    rng = np.random.default_rng(seed)
    found = _figures(scib, z, near, batches, labels)
    null = [
        _figures(scib, z, near, _permuted(batches, labels, rng), labels)
        for _ in range(permutations)
    ]
    return {name: _beside(score, [each[name] for each in null]) for name, score in found.items()}


def _scib_metrics() -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it imports
            import scib_metrics
    except ModuleNotFoundError as error:
        if error.name != "scib_metrics":
            raise  # it is installed, and broken
        raise ValueError("scib-metrics is not installed: pip install scib-metrics.") from error
    return scib_metrics


def _check(batches: np.ndarray, labels: np.ndarray) -> None:
    if len(batches) < LEAST:
        raise ValueError(f"mixing needs {LEAST} cells: got {len(batches)}. Hold out more.")
    if not any(len(np.unique(batches[labels == label])) > 1 for label in np.unique(labels)):
        raise ValueError("no label has cells of two batches. Pass no labels, or more cells.")


def _neighbours(scib: ModuleType, z: np.ndarray) -> object:
    from sklearn.neighbors import NearestNeighbors

    k = min(NEIGHBOURS, len(z) // 3)
    distances, indices = NearestNeighbors(n_neighbors=k).fit(z).kneighbors(z)
    return scib.nearest_neighbors.NeighborsResults(indices=indices, distances=distances)


def _figures(
    scib: ModuleType, z: np.ndarray, near: object, batches: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    found = {
        "iLISI": scib.ilisi_knn(near, batches),
        "kBET": scib.kbet(near, batches)[0],
        "silhouette": scib.silhouette_batch(z, labels, batches),
    }
    if bad := [name for name, score in found.items() if not np.isfinite(score)]:
        raise ValueError(f"{', '.join(bad)} of these states is NaN. Check the fit first.")
    return {name: float(score) for name, score in found.items()}


def _permuted(batches: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    permuted = batches.copy()
    for label in np.unique(labels):
        at = labels == label
        permuted[at] = rng.permutation(batches[at])
    return permuted


def _beside(score: float, null: list[float]) -> Mixed:
    return Mixed(score, float(np.mean(null)), share_reaching([-x for x in null], -score))
