r"""Adaptive shrinkage of estimates towards predictions: empirical Bayes over genes.

    R_g | t_g ~ Normal(t_g, se_g^2)                         an estimate with its standard error
    t_g       ~ sum_k pi_k Normal(a + b m_g, sd_k^2)        the truth around a prediction m_g

a and b are weighted least squares; the weights pi_k over a grid of sd_k are maximum marginal
likelihood. Where the prediction is good, small sd_k have the weight, and t_g is near it; where it
is useless, the posterior is that of the estimate alone.

Stephens, Biostatistics 2017, https://doi.org/10.1093/biostatistics/kxw041
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

SIZES = 16  # standard deviations in the grid
ROUNDS = 200


def shrink(
    estimate: np.ndarray, error: np.ndarray, predicted: np.ndarray, *, draws: int, seed: int = 0
) -> np.ndarray:
    """Posterior draws (S, G) of true values.

    Parameters
    ----------
    estimate, error
        Estimates and their standard errors, (G,).
    predicted
        Predictions of the same values, (G,).
    draws
        Number of draws S.
    seed
        Seed of the draws.

    Examples
    --------
    >>> noise = np.random.default_rng(0)
    >>> truth = noise.normal(size=500)
    >>> estimate, predicted = truth + noise.normal(size=500), truth + 0.1 * noise.normal(size=500)
    >>> found = shrink(estimate, np.ones(500), predicted, draws=200)
    >>> found.shape, bool(found.std(0).mean() < 0.4)
    ((200, 500), True)
    """
    if not (error > 0).any():  # nothing changes in these cells
        return np.repeat(estimate[None], draws, 0)
    error = np.maximum(error, 1e-9)
    centre = _centre(estimate, error, predicted)
    gap = estimate - centre
    sizes = _grid(gap, error)
    share = _weights(gap, error, sizes)
    rng = np.random.default_rng(seed)
    log_p = np.log(share) + _log_normal(gap[:, None], np.hypot(error[:, None], sizes))  # (G, K)
    p = np.exp(log_p - logsumexp(log_p, axis=1, keepdims=True)).cumsum(1)
    chosen = (rng.random((draws, len(gap), 1)) > p).sum(-1).clip(max=len(sizes) - 1)  # (S, G)
    kept = sizes[chosen] ** 2 / (sizes[chosen] ** 2 + error**2)
    return centre + kept * gap + np.sqrt(kept) * error * rng.normal(size=chosen.shape)


def _centre(estimate: np.ndarray, error: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """a + b m: least squares, weighted by the errors and the spread around the line."""
    design = np.stack([np.ones_like(predicted), predicted], 1)
    centre, spread = np.zeros_like(estimate), np.var(estimate)
    for _ in range(10):
        weight = 1 / (error**2 + spread)
        scaled = design * weight[:, None]
        line = np.linalg.lstsq(scaled.T @ design, scaled.T @ estimate, rcond=1e-8)[0]
        centre = design @ line
        spread = max(np.average((estimate - centre) ** 2 - error**2, weights=weight), 1e-6)
    return centre


def _grid(gap: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Standard deviations from a fraction of the errors to beyond the largest gap."""
    most = 2 * np.sqrt(max(np.max(gap**2 - error**2), error.min() ** 2))
    return np.geomspace(error.min() / 4, most, SIZES)


def _weights(gap: np.ndarray, error: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Maximum likelihood of the share of each sd, by EM, (K,)."""
    likelihood = _log_normal(gap[:, None], np.hypot(error[:, None], sizes))
    share = np.full(len(sizes), 1 / len(sizes))
    for _ in range(ROUNDS):
        log_p = np.log(share) + likelihood
        share = np.exp(log_p - logsumexp(log_p, axis=1, keepdims=True)).mean(0) + 1e-12
        share /= share.sum()
    return share


def _log_normal(x: np.ndarray, sd: np.ndarray) -> np.ndarray:
    return -0.5 * (x / sd) ** 2 - np.log(sd)
