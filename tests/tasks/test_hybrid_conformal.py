"""Coverage of conformal intervals, condition by condition."""

import numpy as np
import pytest
import torch

from pgm_expr.tasks.conformal import calibrate
from pgm_expr.tasks.predictors import cross_fit

SD = np.array([0.5, 1.0, 3.0])  # of three conditions


def cells(number, genes, seed):
    """Conditions, and values with skewed errors whose spread goes with the condition."""
    rng = np.random.default_rng(seed)
    condition = rng.integers(3, size=number)
    errors = rng.exponential(size=(number, genes)) - 1
    return condition, condition[:, None] + SD[condition][:, None] * errors


def covered(intervals, values):
    return (intervals[..., 0] <= values) & (values <= intervals[..., 1])


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_each_condition_has_its_coverage(level):
    """Predicted by the true mean; pooled calibration would cover .99 and .86 of the extremes."""
    known, values = cells(3000, 20, seed=0)
    new, unseen = cells(3000, 20, seed=1)
    conformal = calibrate(values - known[:, None], known)
    hits = covered(conformal.intervals(np.tile(new[:, None], 20), new, level=level), unseen)
    for condition in range(3):
        assert hits[new == condition].mean() == pytest.approx(level, abs=0.015)
    pooled = calibrate(values - known[:, None], np.zeros(3000))
    hits = covered(pooled.intervals(np.tile(new[:, None], 20), 0 * new, level=level), unseen)
    assert hits[new == 0].mean() > 0.98 > level > hits[new == 2].mean() + 0.05


def test_out_of_fold_residuals_calibrate():
    """A predictor of 80 columns on 400 cells: intervals of in-sample residuals would cover .86."""
    rng = np.random.default_rng(2)
    c, weights = rng.normal(size=(1400, 80)), rng.normal(size=(80, 30))
    condition = np.arange(1400) % 2
    spread = np.where(condition, 2.0, 0.5)[:, None]
    values = c @ weights + spread * rng.normal(size=(1400, 30))
    fitted = cross_fit(torch.tensor(c[:400]), torch.tensor(values[:400]))
    conformal = calibrate(fitted.residuals, condition[:400])
    predicted = fitted.predict(torch.tensor(c[400:])).numpy()
    hits = covered(conformal.intervals(predicted, condition[400:]), values[400:])
    for each in (0, 1):
        assert hits[condition[400:] == each].mean() == pytest.approx(0.95, abs=0.025)


def test_difficulty_widens_and_a_bound_cuts():
    rng = np.random.default_rng(3)
    hard = rng.uniform(0.5, 2, (500, 2))
    conformal = calibrate(hard * rng.normal(size=(500, 2)), np.zeros(500), hard)
    found = conformal.intervals(np.ones((2, 2)), [0, 0], [[1, 1], [2, 2]], least=0.0)
    assert (found[..., 0] == 0).all()
    assert np.allclose((found[1, :, 1] - 1) / (found[0, :, 1] - 1), 2)


def test_few_cells_give_no_end_and_unknown_conditions_an_error():
    conformal = calibrate(np.ones((18, 1)), np.zeros(18))
    assert np.isinf(conformal.intervals([[0.0]], [0])).all()
    assert conformal.intervals([[0.0]], [0], level=0.9).tolist() == [[[-1, 1]]]
    with pytest.raises(ValueError, match="got 7, of which no cell was"):
        conformal.intervals([[0.0]], [7])
    with pytest.raises(ValueError, match="level is a share: got 95"):
        conformal.intervals([[0.0]], [0], level=95)
    with pytest.raises(ValueError, match="must be of the same cells"):
        calibrate(np.ones((3, 1)), [0, 1])
