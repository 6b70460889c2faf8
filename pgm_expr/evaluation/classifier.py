r"""Which label a cell has, and how sure that is: a calibrated classifier of latent states.

    p(y | x)     = mean over draws z ~ q(z | x) of softmax(logits(z) / temperature)
    p(label | y) = 1 - noise for y itself, the rest shared by the others

The logits are linear in z, fitted to the mean of each labelled cell's draws. Dimensions are scaled
by all draws together, so that one which holds nothing of any cell is not blown up. Penalty,
temperature, and whether to average over draws or to take their mean as the state, are chosen by
cross-fitting: each labelled cell is judged by a classifier that was fitted without it, by
log p(label | x). Few labels can be separated without error almost anywhere, so the error on the
cells it was fitted to says nothing of either; and with few the average over draws is the better
one, with many the mean.

Guo et al., On Calibration of Modern Neural Networks, ICML 2017, https://arxiv.org/abs/1706.04599
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)  # sklearn's C
LOG_TEMPERATURES = (-4.0, 3.0)
CERTAIN = 1e-6  # a label is never impossible


@dataclass(frozen=True)
class Classifier:
    """A fitted p(y | z) over K classes; those without a labelled cell have probability 0."""

    scaler: StandardScaler
    regression: LogisticRegression
    temperature: float
    averaged: bool  # over draws; else their mean is the state
    classes: int

    def probabilities(self, draws: np.ndarray) -> np.ndarray:
        """p(y | x) of draws (S, N, D) of the states of N cells: (N, K)."""
        draws = draws if self.averaged else draws.mean(0, keepdims=True)
        logits = _logits(self.regression, _scaled(self.scaler, draws))
        known = np.zeros((draws.shape[1], self.classes))
        known[:, self.regression.classes_] = softmax(logits / self.temperature, -1).mean(0)
        return known


def fit_classifier(
    draws: np.ndarray, labels: np.ndarray, *, classes: int, noise: float = 0.0, seed: int = 0
) -> Classifier:
    """Fit p(y | z) to draws (S, N, D) of the states of cells; labels (N,), -1 where not known.

    `noise` is the share of labels that are wrong.
    ValueError where fewer than two classes have two labelled cells: nothing can be cross-fitted.
    """
    scaler = StandardScaler().fit(draws.reshape(-1, draws.shape[-1]))
    chosen, y = _scaled(scaler, draws[:, labels >= 0]), labels[labels >= 0]
    sizes = np.bincount(y, minlength=classes)
    if (sizes > 1).sum() < 2:
        raise ValueError(
            f"a classifier needs two labelled cells in each of two classes: got {sizes.tolist()} "
            "by class. Label more cells."
        )
    states = {True: chosen, False: chosen.mean(0, keepdims=True)}
    tried = itertools.product(PENALTIES, states)
    score, penalty, averaged = max(
        (_crossfit(states[a], y, p, noise, seed), p, a) for p, a in tried
    )
    regression = _regression(penalty).fit(states[False][0], y)
    return Classifier(scaler, regression, score.temperature, averaged, classes)


class _Score(NamedTuple):
    log_p: float  # mean log p(label | x) of cells left out
    temperature: float


def _regression(penalty: float) -> LogisticRegression:
    return LogisticRegression(C=penalty, max_iter=5000)


def _scaled(scaler: StandardScaler, draws: np.ndarray) -> np.ndarray:
    return (draws - scaler.mean_) / scaler.scale_


def _logits(regression: LogisticRegression, draws: np.ndarray) -> np.ndarray:
    """(S, N, K), for two classes too, of which sklearn gives the difference alone."""
    found = regression.decision_function(draws.reshape(-1, draws.shape[-1]))
    found = found if found.ndim == 2 else np.stack([np.zeros_like(found), found], 1)
    return found.reshape(*draws.shape[:2], -1)


def _crossfit(draws: np.ndarray, y: np.ndarray, penalty: float, noise: float, seed: int) -> _Score:
    """Mean log p(label | x) of cells left out, at the best temperature."""
    logits, known = _left_out(draws, y, penalty, seed)
    classes = logits.shape[-1]
    wrong = max(noise, CERTAIN) / max(classes - 1, 1)
    confusion = np.full((classes, classes), wrong)
    np.fill_diagonal(confusion, 1 - max(noise, CERTAIN))

    def loss(log_temperature: float) -> float:
        recorded = softmax(logits / np.exp(log_temperature), -1).mean(0) @ confusion
        return -np.log(recorded[np.arange(len(known)), known]).mean()

    best = minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded")
    return _Score(-best.fun, float(np.exp(best.x)))


def _left_out(
    draws: np.ndarray, y: np.ndarray, penalty: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (S, n, K) of each cell by a fit without it, and its class; of classes of two."""
    _, codes, sizes = np.unique(y, return_inverse=True, return_counts=True)
    keep = sizes[codes] > 1
    draws, (present, codes) = draws[:, keep], np.unique(codes[keep], return_inverse=True)
    logits = np.empty((*draws.shape[:2], len(present)))
    folds = StratifiedKFold(min(5, sizes[sizes > 1].min()), shuffle=True, random_state=seed)
    for train, test in folds.split(codes, codes):
        fitted = _regression(penalty).fit(draws[:, train].mean(0), codes[train])
        logits[:, test] = _logits(fitted, draws[:, test])
    return logits, codes


def calibration_error(p: np.ndarray, labels: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean gap of confidence and accuracy over bins of confidence.

    p (N, K) probabilities, labels (N,). Even a perfectly calibrated classifier has some, see
    `excess_calibration_error`. Naeini et al., AAAI 2015.
    """
    sure, right = p.max(1), p.argmax(1) == labels
    binned = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = np.bincount(binned, right - sure, bins)
    return float(np.abs(gaps).sum() / len(p))


def excess_calibration_error(
    p: np.ndarray, labels: np.ndarray, *, draws: int = 200, seed: int = 0
) -> float:
    """`calibration_error` minus its mean over labels drawn from p itself: 0 if calibrated."""
    rng = np.random.default_rng(seed)
    cumulative = p.cumsum(1) / p.sum(1, keepdims=True)
    uniform = rng.random((draws, len(p), 1))
    drawn = (uniform > cumulative).sum(-1)  # (draws, N)
    return calibration_error(p, labels) - float(np.mean([calibration_error(p, y) for y in drawn]))
