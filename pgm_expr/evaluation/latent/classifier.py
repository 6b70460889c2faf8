r"""A calibrated classifier of latent states: labels of cells, and how certain they are.

    p(y | x)     = mean over draws z ~ q(z | x) of softmax(logits(z) / temperature)
    p(label | y) = 1 - noise for y itself, the rest divided among the others

The logits are linear in z and maximise log p(label | z) - |weights|^2 / (2 penalty) over the mean
states of labelled cells. Dimensions are scaled by all draws together, so that a dimension without
information about any cell is not inflated.

Few labels can be separated without error almost anywhere, so the error on the training cells says
nothing about penalty or temperature: each labelled cell is judged by a classifier that was fitted
without it, by log p(label | x), and where labels are few in several splits. The best temperature
of few labels is often 0, and that of wrong ones is chance, so none is chosen on the way: the
penalty is the one with the largest prod p(label | x) on average over a grid of temperatures, and
log temperature its mean, each weighted by the same product. With many labels both converge to the
best.

Guo et al., On Calibration of Modern Neural Networks, ICML 2017, https://arxiv.org/abs/1706.04599
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax
from sklearn.preprocessing import StandardScaler

PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)
TEMPERATURES = np.exp(np.arange(-4, 1.51, 0.25))
CERTAIN = 1e-6  # a label is never impossible
FOLDS = 5
SPLITS, ENOUGH = 5, 1000  # splits into folds, and cells left out by all of them together


@dataclass(frozen=True)
class Classifier:
    """A fitted p(y | z) over K classes; those without a labelled cell have probability 0.

    Parameters
    ----------
    scaler
        Of the states.
    weights
        Of [z, 1], (D + 1, classes present).
    temperature
        Divides the logits.
    present
        Classes with a labelled cell.
    classes
        Number K of classes.
    """

    scaler: StandardScaler
    weights: np.ndarray
    temperature: float
    present: np.ndarray
    classes: int

    def probabilities(self, draws: np.ndarray) -> np.ndarray:
        """p(y | x) of N cells, (N, K), from S draws of their states, (S, N, D)."""
        logits = _scaled(self.scaler, draws) @ self.weights
        known = np.zeros((draws.shape[1], self.classes))
        known[:, self.present] = _averaged(logits, self.temperature)
        return known


def fit_classifier(
    draws: np.ndarray, labels: np.ndarray, *, classes: int, noise: float = 0.0, seed: int = 0
) -> Classifier:
    """Fit p(y | z) to draws of the states of cells.

    Parameters
    ----------
    draws
        Draws of states, (S, N, D).
    labels
        Codes, (N,), -1 where unknown.
    classes
        Number K of classes.
    noise
        Share of labels that are wrong.
    seed
        Of the splits into folds.

    Raises
    ------
    ValueError
        Where fewer than two classes have two labelled cells: nothing can be cross-fitted.

    Examples
    --------
    >>> z = np.repeat([[-2.0], [2.0]], 10, axis=0) + np.random.default_rng(0).normal(size=(20, 1))
    >>> labels = np.repeat([0, 1], 10)
    >>> fitted = fit_classifier(z[None], labels, classes=2)
    >>> float((fitted.probabilities(z[None]).argmax(1) == labels).mean()) > 0.9
    True
    """
    scaler = StandardScaler().fit(draws.reshape(-1, draws.shape[-1]))
    z, y = _scaled(scaler, draws[:, labels >= 0]), labels[labels >= 0]
    sizes = np.bincount(y, minlength=classes)
    if (sizes > 1).sum() < 2:
        raise ValueError(
            f"a classifier needs two labelled cells in each of two classes: got {sizes.tolist()} "
            "by class. Label more cells."
        )
    scores = np.stack([_crossfit(z, y, penalty, noise, seed) for penalty in PENALTIES])
    best = logsumexp(scores, 1).argmax()
    penalty, temperature = PENALTIES[best], np.exp(softmax(scores[best]) @ np.log(TEMPERATURES))
    weights = _regression(z.mean(0), y, penalty, noise)
    return Classifier(scaler, weights, float(temperature), np.unique(y), classes)


def _scaled(scaler: StandardScaler, draws: np.ndarray) -> np.ndarray:
    """[z, 1], (S, N, D + 1)."""
    z = (draws - scaler.mean_) / scaler.scale_
    return np.concatenate([z, np.ones_like(z[..., :1])], -1)


def _averaged(logits: np.ndarray, temperature: float) -> np.ndarray:
    return softmax(logits / temperature, -1).mean(0)


def _confusion(classes: int, noise: float) -> np.ndarray:
    """p(label | y), (K, K)."""
    wrong = max(noise, CERTAIN)
    return np.where(np.eye(classes, dtype=bool), 1 - wrong, wrong / max(classes - 1, 1))


def _regression(z: np.ndarray, y: np.ndarray, penalty: float, noise: float) -> np.ndarray:
    """Weights (D + 1, K) of the classes of y, by descent from no preference."""
    present, y = np.unique(y, return_inverse=True)
    likelihood = _confusion(len(present), noise)[:, y].T  # p(label | y), (N, K)
    shape = z.shape[1], len(present)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(shape)
        p = softmax(z @ weights, -1)
        recorded = (p * likelihood).sum(1, keepdims=True)
        shrunk = weights / penalty
        shrunk[-1] = 0  # the intercept is free
        gradient = z.T @ (p - p * likelihood / recorded) + shrunk
        return (shrunk * weights).sum() / 2 - np.log(recorded).sum(), gradient.ravel()

    start = np.zeros(shape).ravel()
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 5000})
    return found.x.reshape(shape)


def _crossfit(z: np.ndarray, y: np.ndarray, penalty: float, noise: float, seed: int) -> np.ndarray:
    """log p(label | x) of cells left out, summed, at each temperature; mean over splits."""
    kept = np.bincount(y)[y] > 1  # a class of one cell cannot be learned without it
    z, (present, y) = z[:, kept], np.unique(y[kept], return_inverse=True)
    likelihood, rng = _confusion(len(present), noise)[:, y].T, np.random.default_rng(seed)
    splits = int(np.clip(ENOUGH // len(y), 1, SPLITS))
    score = np.zeros(len(TEMPERATURES))
    for _ in range(splits):
        logits = _left_out(z, y, _folds(y, rng), penalty, noise)
        recorded = [(_averaged(logits, t) * likelihood).sum(1) for t in TEMPERATURES]
        score += np.log(recorded).sum(1) / splits
    return score


def _folds(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fold of each cell; cells of a class are in as many folds as possible."""
    folds = np.empty(len(y), int)
    folds[np.lexsort((rng.random(len(y)), y))] = np.arange(len(y)) % FOLDS
    return folds


def _left_out(
    z: np.ndarray, y: np.ndarray, folds: np.ndarray, penalty: float, noise: float
) -> np.ndarray:
    """Logits (S, n, K) of each cell from a fit without its fold."""
    logits = np.empty((*z.shape[:2], y.max() + 1))
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        logits[:, test] = z[:, test] @ _regression(z[:, train].mean(0), y[train], penalty, noise)
    return logits


def calibration_error(p: np.ndarray, labels: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean gap of confidence and accuracy over bins of confidence.

    It is above 0 even for a perfectly calibrated classifier, see `excess_calibration_error`.

    Parameters
    ----------
    p
        Probabilities, (N, K).
    labels
        Codes, (N,).
    bins
        Number of bins of confidence.

    References
    ----------
    Naeini et al., AAAI 2015.

    Examples
    --------
    >>> calibration_error(np.array([[0.75, 0.25]] * 4), np.array([0, 0, 0, 1]))
    0.0
    """
    sure, right = p.max(1), p.argmax(1) == labels
    binned = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = np.bincount(binned, right - sure, bins)
    return float(np.abs(gaps).sum() / len(p))


def excess_calibration_error(
    p: np.ndarray, labels: np.ndarray, *, draws: int = 200, seed: int = 0
) -> float:
    """`calibration_error` minus its mean over labels drawn from p: 0 if calibrated.

    Parameters
    ----------
    p, labels
        As for `calibration_error`.
    draws
        Draws of all labels.
    seed
        Of the draws.
    """
    rng = np.random.default_rng(seed)
    cumulative = p.cumsum(1) / p.sum(1, keepdims=True)
    uniform = rng.random((draws, len(p), 1))
    drawn = (uniform > cumulative).sum(-1)  # (draws, N)
    return calibration_error(p, labels) - float(np.mean([calibration_error(p, y) for y in drawn]))
