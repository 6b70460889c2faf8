r"""Prediction intervals with the requested coverage within each condition (Mondrian).

    q_k   the ceil((n_k + 1) level)-th smallest |r| / u of the n_k calibration cells of condition k
    interval of a new cell of condition k: prediction +- q_k u

u is 1, or any measure of how hard a cell is to predict. Where the calibration cells of a condition
and the new one are exchangeable, and the predictor saw neither, at least `level` of such intervals
hold the value, whatever the predictor and the law. The share is over cells, gene by gene; it is
not that of all genes at once. With the out-of-fold residuals of `cross_fit` the predictor differs
a little between cells, and coverage is nearly, but not provably, that. Counts tie: intervals of
theirs cover too much, see `evaluation.pit`.

The intervals are those of crepes, https://github.com/henrikbostrom/crepes
Vovk, Lindsay, Nouretdinov and Gammerman, Mondrian Confidence Machine, 2003
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from crepes import ConformalRegressor
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Mondrian:
    """A conformal regressor a gene, and the conditions that they know."""

    regressors: list[ConformalRegressor]  # G
    conditions: np.ndarray

    def intervals(
        self,
        predicted: ArrayLike,
        condition: ArrayLike,
        difficulty: ArrayLike | None = None,
        *,
        level: float = 0.95,
        least: float = -np.inf,
    ) -> np.ndarray:
        """Intervals (N, G, 2) of cells predicted (N, G) in conditions (N,), none below `least`.

        Infinite in a condition of fewer than level / (1 - level) calibration cells. ValueError
        for a condition without any.
        """
        condition, predicted = np.asarray(condition), np.asarray(predicted)
        self._check(condition, level)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the no. of calibration examples is too small")
            found = [
                each.predict_int(predicted[:, g], sigmas, condition, level, least)
                for g, (each, sigmas) in enumerate(
                    zip(self.regressors, _columns(difficulty, len(self.regressors)), strict=True)
                )
            ]
        return np.stack(found, 1)

    def _check(self, condition: np.ndarray, level: float) -> None:
        if strange := sorted(set(condition.tolist()) - set(self.conditions.tolist())):
            raise ValueError(
                f"intervals are calibrated by condition: got {strange[0]!r}, of which no cell "
                f"was. Calibrate on it, or pool conditions."
            )
        if not 0 < level < 1:
            raise ValueError(f"level is a share: got {level}. Take .95.")


def calibrate(
    residuals: ArrayLike, condition: ArrayLike, difficulty: ArrayLike | None = None
) -> Mondrian:
    """From residuals (n, G) of cells that their predictor did not see, and conditions (n,).

    `difficulty` (n, G) is positive; then `intervals` need it too.
    """
    residuals, condition = np.asarray(residuals), np.asarray(condition)
    if residuals.ndim != 2 or len(condition) != len(residuals):
        raise ValueError(
            f"residuals (n, G) and conditions (n,) must be of the same cells: got "
            f"{residuals.shape} and {condition.shape}."
        )
    columns = _columns(difficulty, residuals.shape[1])
    regressors = [
        ConformalRegressor().fit(column, sigmas, condition)
        for column, sigmas in zip(residuals.T, columns, strict=True)
    ]
    return Mondrian(regressors, np.unique(condition))


def _columns(difficulty: ArrayLike | None, genes: int) -> list[np.ndarray | None]:
    if difficulty is None:
        return [None] * genes
    return [*np.asarray(difficulty).T]
