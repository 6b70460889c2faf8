"""Probes of states that are fitted once and predict any column of metadata.

A probe of (z, other), states (N, D) of training and (M, D) of test cells, is a function: values of
the training cells -> predictions for the test cells. What depends on states alone (their scale,
nearest neighbours) is computed once, so that a hundred permutations cost little.

    levels (N,) -> (M,)           linear, neighbours
    numbers (N, S) -> (M, S)      ridge, neighbours_mean

ValueError for states that are not finite.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

NEAREST = 15  # training cells
Read = Callable[[np.ndarray], np.ndarray]
Probe = Callable[[np.ndarray, np.ndarray], Read]


def linear(z: np.ndarray, other: np.ndarray) -> Read:
    """Logistic regression on standardised states, each level of equal weight."""
    fitted, test = _standardised(z, other)

    def read(levels: np.ndarray) -> np.ndarray:
        classifier = LogisticRegression(max_iter=2000, class_weight="balanced")
        return classifier.fit(fitted, levels).predict(test)

    return read


def neighbours(z: np.ndarray, other: np.ndarray) -> Read:
    """The level with the largest share of its training cells among the nearest ones.

    States are not standardised: otherwise dimensions not in use would count in full.
    """
    near = _nearest(z, other)

    def read(levels: np.ndarray) -> np.ndarray:
        kinds, codes, sizes = np.unique(levels, return_inverse=True, return_counts=True)
        votes = (codes[near][..., None] == np.arange(len(kinds))).sum(1) / sizes  # (M, K)
        return kinds[votes.argmax(1)]

    return read


def ridge(z: np.ndarray, other: np.ndarray) -> Read:
    """Ridge regression on standardised states."""
    fitted, test = _standardised(z, other)
    return lambda numbers: (
        Ridge().fit(fitted, numbers).predict(test).reshape(-1, *numbers.shape[1:])
    )


def neighbours_mean(z: np.ndarray, other: np.ndarray) -> Read:
    """The mean over the nearest training cells; states are not standardised."""
    near = _nearest(z, other)
    return lambda numbers: numbers[near].mean(1)


def _standardised(z: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    _check(z, other)
    scale = StandardScaler().fit(z)
    return scale.transform(z), scale.transform(other)


def _nearest(z: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Positions of the training cells nearest to each test cell, (M, k)."""
    _check(z, other)
    k = min(NEAREST, -(-len(z) // 2))
    return NearestNeighbors(n_neighbors=k).fit(z).kneighbors(other, return_distance=False)


def _check(*sides: np.ndarray) -> None:
    bad = sum(np.count_nonzero(~np.isfinite(z).all(1)) for z in sides)
    if bad:
        raise ValueError(f"states are not finite in {bad} cells. Check the fit first.")
