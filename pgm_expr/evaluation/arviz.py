"""ArviZ of both generations: what 0.x and 1.x name or return differently."""

from __future__ import annotations

import math
import warnings
from types import ModuleType
from typing import Any

import numpy as np
from scipy.special import logsumexp

SMALLEST = math.log(np.finfo(float).tiny)  # a relative log weight below it weighs nothing


def arviz() -> ModuleType:
    """ArviZ, without the announcement of 1.x that 0.x makes when it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import arviz
    return arviz


def before_one(az: ModuleType) -> bool:
    """Whether this ArviZ is a 0.x, with InferenceData rather than DataTree."""
    return az.__version__.startswith("0.")


def psislw(log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pareto-smoothed log weights, (N, S), normalised, and Pareto's k, (N,), of (N, S).

    k is infinite where fewer than five weights stand out, so that there is no tail to fit.
    """
    az = arviz()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large k, which is returned
        if before_one(az):
            smooth, k = az.psislw(log_weights.copy())
            return np.asarray(smooth), np.atleast_1d(k)
        return _psislw(log_weights)


def _psislw(log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By ArviZ 1.x, which takes log likelihoods and refuses a tail of equal weights."""
    from arviz_stats.base import array_stats

    smooth = log_weights - logsumexp(log_weights, axis=-1, keepdims=True)
    k, relative = np.full(len(smooth), np.inf), smooth - smooth.max(-1, keepdims=True)
    draws = smooth.shape[-1]
    tail = math.ceil(min(0.2 * draws, 3 * math.sqrt(draws)))
    cutoff = np.sort(relative)[:, [-tail - 1]].clip(SMALLEST)
    fits = (relative > cutoff).sum(-1) > 4
    if fits.any():
        smooth[fits], found = array_stats.psislw(-log_weights[fits])
        k[fits] = np.where(np.isnan(found), np.inf, found)
    return smooth, k


def loo_pit_arguments(y: np.ndarray, y_hat: np.ndarray, log_weights: np.ndarray) -> dict[str, Any]:
    """Of `plot_loo_pit` (ArviZ 0.x) or `plot_ecdf_pit` (1.x), from what `loo_pit.left_out` gives.

    `plot_loo_pit` of 1.x smooths the weights itself and refuses equal ones.
    """
    az = arviz()
    if before_one(az):
        return {"y": y, "y_hat": y_hat, "log_weights": log_weights}
    values = (np.exp(log_weights) * (y_hat <= y[..., None])).sum(-1)
    cells = ["cell", "gene"]
    data = az.from_dict({"loo_pit": {"x": values}}, dims={"x": cells}, sample_dims=[])
    return {"dt": data, "group": "loo_pit", "sample_dims": cells}
