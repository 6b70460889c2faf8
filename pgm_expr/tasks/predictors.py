r"""What metadata predict: any scikit-learn regressor, judged on cells that it was not fitted on.

    f_k         fitted without fold k;       r_n = x_n - f_k(c_n), n in fold k
    a_k, b_k    fitted on two halves of the same cells, which share none
    prediction  f(c) = 1/K sum_k f_k(c)

In a cell that neither has seen, the errors of a_k and b_k are independent of each other and of
the cell, so that products of residuals have no part of either's variance:

    aleatoric   mean of (x - a_k(c)) (x - b_k(c))          unexplained given c, by gene
    epistemic   s 1/K sum_k (a_k(c) - b_k(c))^2 / 2        of a predictor f_k, at c
                s such that, over the cells of the fit, aleatoric + epistemic = mean r^2

Residuals of the cells of the fit would be too small: by 1 - p / n in least squares of p columns.
What is unexplained given c is no noise: states, donors and all else that c does not tell are in
it, and so is what the regressor does not express when fitted on half the cells; it is at most the
mean of r^2. Where cells come in donors, whole donors must be left out: pass them as groups.

Chernozhukov et al., Econometrics Journal 2018, https://doi.org/10.1111/ectj.12097 (cross-fitting)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin, clone
from sklearn.linear_model import Ridge
from torch import Tensor


@dataclass(frozen=True)
class CrossFitted:
    """A mean predictor in K folds, its out-of-fold residuals and both variances."""

    regressors: Sequence[RegressorMixin]  # K
    halves: Sequence[tuple[RegressorMixin, RegressorMixin]]  # K
    residuals: Tensor  # (N, G) out of fold
    aleatoric: Tensor  # (G,)
    ratio: float  # s: variance of a predictor of all but a fold to that of one of half as many

    def predict(self, c: Tensor) -> Tensor:
        """E[x | c] of cells c (N, C): (N, G)."""
        rows = _array(c)
        return _tensor(np.mean([_predicted(each, rows) for each in self.regressors], 0))

    def epistemic(self, c: Tensor) -> Tensor:
        """The variance of a prediction at c (N, C), had other cells been fitted: (N, G)."""
        return self.ratio / 2 * self._gaps(c).square().mean(0)

    def draw(self, c: Tensor, draws: int) -> Tensor:
        """Predictions that other cells might have led to, (S, N, G): each errs in all alike."""
        gaps = self._gaps(c)
        weights = torch.randn(draws, len(gaps)) * (self.ratio / 2 / len(gaps)) ** 0.5
        return self.predict(c) + torch.einsum("sk,kng->sng", weights, gaps)

    def _gaps(self, c: Tensor) -> Tensor:
        """How far the halves are apart, (K, N, G)."""
        rows = _array(c)
        gaps = [_predicted(a, rows) - _predicted(b, rows) for a, b in self.halves]
        return _tensor(np.stack(gaps))


def cross_fit(
    c: Tensor,
    values: Tensor,
    regressor: RegressorMixin | None = None,
    *,
    folds: int = 10,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> CrossFitted:
    """Fit E[values | c] of cells c (N, C) and values (N, G), 3 K times; by default with Ridge.

    `groups` (N,) names what is left out as a whole. A regressor without a random state of its
    own takes another one each time. ValueError for fewer than two folds, or fewer than two
    groups a fold.
    """
    rows, x = _array(c), _array(values)
    rng = np.random.default_rng(seed)
    group, fold = _folds(np.arange(len(rows)) if groups is None else groups, folds, rng)
    fitted, halves, residuals, products, gaps = [], [], x.copy(), x.copy(), 0.0
    for k in range(folds):
        out = fold == k
        three = [
            _fitted(regressor or Ridge(), rows[part], x[part], seed + 3 * k + i)
            for i, part in enumerate((~out, *_halves(group, ~out, rng)))
        ]
        whole, a, b = (x[out] - _predicted(each, rows[out]) for each in three)
        residuals[out], products[out] = whole, a * b
        gaps += ((a - b) ** 2).sum() / 2
        fitted.append(three[0])
        halves.append((three[1], three[2]))
    aleatoric = products.mean(0).clip(0, (residuals**2).mean(0))
    ratio = ((residuals**2).sum() - products.sum()) / max(gaps, 1e-300)
    return CrossFitted(
        fitted, halves, _tensor(residuals), _tensor(aleatoric), float(np.clip(ratio, 0, 1))
    )


def _folds(
    groups: ArrayLike, folds: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The group of each cell as a code, and its fold."""
    names, code = np.unique(np.asarray(groups), return_inverse=True)
    if folds < 2 or len(names) < 2 * folds:
        raise ValueError(
            f"cross-fitting needs two folds and two groups in each: got {folds} folds of "
            f"{len(names)} groups. Take 2 <= folds <= {len(names) // 2}."
        )
    return code, rng.permutation(len(names))[code] % folds


def _halves(
    group: np.ndarray, kept: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Masks of two halves of the cells kept, that share no group; others in each fold."""
    names = rng.permutation(np.unique(group[kept]))
    first = np.isin(group, names[: len(names) // 2])
    return kept & first, kept & ~first


def _fitted(
    regressor: RegressorMixin, c: np.ndarray, values: np.ndarray, seed: int
) -> RegressorMixin:
    regressor = clone(regressor)
    if regressor.get_params().get("random_state", 0) is None:
        regressor.set_params(random_state=seed)
    return regressor.fit(c, values[:, 0] if values.shape[1] == 1 else values)


def _predicted(regressor: RegressorMixin, c: np.ndarray) -> np.ndarray:
    return regressor.predict(c).reshape(len(c), -1)


def _array(tensor: Tensor) -> np.ndarray:
    return np.asarray(tensor.detach().cpu(), np.float64)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.as_tensor(array, dtype=torch.get_default_dtype())
