"""A linear probe of labels in latent states, and principal components to compare with.

Components, scaling and classifier are fitted on training cells only.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..counts.statistics import Counts


def pca(x_train: Counts, *others: Counts, size: int = 10, seed: int = 0) -> list[np.ndarray]:
    """Principal components of log(1 + 1e4 x / total), the baseline of a probe.

    Parameters
    ----------
    x_train
        Counts that the components are fitted to, (n, G), dense or sparse. A cell without counts
        is zero before centring.
    others
        Counts of other cells.
    size
        Number of components.
    seed
        Of the solver's start.

    Returns
    -------
    list
        Projections (n, size) of the training cells, then of the others.

    Raises
    ------
    ValueError
        Where `size` is not below the numbers of training cells and genes.

    Examples
    --------
    >>> x = np.random.default_rng(0).poisson(3.0, (20, 6))
    >>> [part.shape for part in pca(x, x[:5], size=2)]
    [(20, 2), (5, 2)]
    """
    if not 1 <= size < min(x_train.shape):
        raise ValueError(
            f"size must lie below the training cells and genes {x_train.shape}: got {size}. "
            "Take fewer components."
        )
    fitted = PCA(size, svd_solver="arpack", random_state=seed).fit(log_normalise(x_train))
    return [fitted.transform(log_normalise(x)) for x in (x_train, *others)]


def probe(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    minimum: int = 5,
) -> dict[str, float]:
    """Fit logistic regression on standardised training latents, and score it on test cells.

    Parameters
    ----------
    train, test
        Latents, (n, D).
    train_labels, test_labels
        Integer codes, (n,), -1 for unlabelled cells, which are left out.
    minimum
        Labelled test cells that a class needs to enter the means over classes.

    Returns
    -------
    dict
        `accuracy` and `majority_accuracy` (of always predicting the commonest training class) are
        over all labelled test cells. `balanced_accuracy` (mean recall) and `macro_f1` are means
        over the `classes` classes that have at least `minimum` of the `cells` labelled test
        cells, whether in the training set or not; false positives from smaller classes count in
        F1.

    Raises
    ------
    ValueError
        For latents that are not finite, rows that do not match, labels that are no integers, no
        labelled cell, one training class, and no class large enough.

    Examples
    --------
    >>> z, labels = np.repeat([[-2.0], [2.0]], 10, axis=0), np.repeat([0, 1], 10)
    >>> float(probe(z, labels, z, labels)["macro_f1"])
    1.0
    """
    train, train_labels = _labelled("training", train, train_labels)
    test, test_labels = _labelled("test", test, test_labels)
    classes, sizes = np.unique(train_labels, return_counts=True)
    if len(classes) < 2:
        raise ValueError(f"the training cells have one class, {classes[0]}. Probe two or more.")
    if train.shape[1] != test.shape[1]:
        raise ValueError(
            f"training latents have {train.shape[1]} dimensions, test latents {test.shape[1]}. "
            "Embed both with the same model."
        )
    counted = _classes_of(test_labels, minimum)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    guess = classifier.fit(train, train_labels).predict(test)
    return {
        "accuracy": float(np.mean(guess == test_labels)),
        "majority_accuracy": float(np.mean(test_labels == classes[sizes.argmax()])),
        "balanced_accuracy": recall_score(test_labels, guess, labels=counted, average="macro"),
        "macro_f1": f1_score(test_labels, guess, labels=counted, average="macro"),
        "classes": len(counted),
        "cells": len(test_labels),
    }


def log_normalise(x: Counts) -> sparse.csr_matrix:
    """log(1 + 1e4 x / total) of counts (n, G); a cell without counts stays zero."""
    x = sparse.csr_matrix(x, dtype=np.float64)
    totals = np.asarray(x.sum(1)).ravel()
    return (sparse.diags(1e4 / np.where(totals > 0, totals, 1.0)) @ x).log1p()


def _labelled(
    which: str, latents: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    latents, labels = np.asarray(latents, np.float64), np.asarray(labels)
    if latents.ndim != 2 or labels.shape != latents.shape[:1]:
        raise ValueError(
            f"{which} latents (n, D) and labels (n,) must match: "
            f"got {latents.shape} and {labels.shape}. Pass one row and one label per cell."
        )
    if labels.dtype.kind not in "iu":
        raise ValueError(
            f"{which} labels must be integer codes: got {labels.dtype}. Encode them, -1 = unknown."
        )
    if not (labels != -1).any():
        raise ValueError(f"none of {len(labels)} {which} cells is labelled. Probe another label.")
    if bad := np.count_nonzero(~np.isfinite(latents).all(1)):
        raise ValueError(f"{which} latents are not finite in {bad} cells. Check the fit first.")
    return latents[labels != -1], labels[labels != -1]


def _classes_of(labels: np.ndarray, minimum: int) -> np.ndarray:
    classes, sizes = np.unique(labels, return_counts=True)
    if sizes.max() < minimum:
        raise ValueError(
            f"no class has {minimum} test cells: the largest has {sizes.max()}. "
            "Hold out more cells."
        )
    return classes[sizes >= minimum]
