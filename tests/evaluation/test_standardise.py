"""Direct standardisation: against sums by hand, and its standard errors against simulation."""

import numpy as np
import pytest
from scipy import sparse

from pgm_expr.evaluation.standardise import observe
from pgm_expr.simulate import simulate


def test_equal_libraries_give_the_ratio_of_weighted_means():
    counts = np.array([[60, 40], [20, 80], [50, 50], [10, 90]] * 500)
    strata, levels = np.tile([0, 0, 1, 1], 500), np.tile([0, 1, 0, 1], 500)
    found = observe(sparse.csr_array(counts), strata, levels, (2, 2))
    effect, error = found.contrast(np.array([[3, 0], [1, 0]]), 1)
    after, before = (3 * 0.2 + 0.1, 3 * 0.8 + 0.9), (3 * 0.6 + 0.5, 3 * 0.4 + 0.5)
    assert effect == pytest.approx(np.log2(np.divide(after, before)), abs=1e-3)
    assert (error < 0.02).all() and found.cells.tolist() == [[500, 500], [500, 500]]


def test_cells_that_have_the_level_already_do_not_change():
    found = observe(
        np.random.default_rng(0).poisson(3.0, (40, 5)), *np.zeros((2, 40), int), (1, 2)
    )
    effect, error = found.contrast(np.array([[40, 0]]), 0)
    assert (effect == 0).all() and (error == 0).all()


def test_a_confounded_difference_is_not_taken_for_an_effect():
    truth = simulate(2000, 100, seed=0, types=4, conditions=2, confounding=0.8, null=1.0)
    found = observe(truth.x, truth.type, truth.condition, (4, 2))
    targets = np.stack([np.bincount(truth.type), np.zeros(4, int)], 1)
    effect, error = found.contrast(targets, 1)
    pooled = observe(truth.x, np.zeros(2000, int), truth.condition, (1, 2))
    naive, _ = pooled.contrast(targets.sum(0, keepdims=True), 1)
    assert np.sqrt((effect**2).mean()) < 0.5 * np.sqrt((naive**2).mean())
    z = effect / error  # the effect is 0: within three standard errors of a normal deviation
    assert abs(z.std() - 1) < 3 / np.sqrt(200)
