"""Adaptive shrinkage: against the normal-normal posterior, and its coverage over genes."""

import numpy as np
import pytest

from pgm_expr.evaluation.shrinkage import shrink

GENES = 4000


def sets(spread, seed=0):
    noise = np.random.default_rng(seed)
    predicted, error = noise.normal(size=GENES), noise.uniform(0.2, 0.6, GENES)
    truth = 0.5 * predicted + 0.1 + spread * noise.normal(size=GENES)
    return truth, truth + error * noise.normal(size=GENES), error, predicted


def test_a_normal_prior_gives_the_conjugate_posterior():
    _, estimate, error, predicted = sets(0.4)
    found = shrink(estimate, error, predicted, draws=1000)
    kept = 0.4**2 / (0.4**2 + error**2)
    centre = 0.5 * predicted + 0.1
    exact = centre + kept * (estimate - centre)
    assert np.sqrt(((found.mean(0) - exact) ** 2).mean()) < 0.05
    assert np.median(found.std(0) / (np.sqrt(kept) * error)) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("spread", [0.1, 1.0])
def test_intervals_hold_the_truth_in_nineteen_of_twenty_genes(spread):
    truth, estimate, error, predicted = sets(spread)
    low, high = np.quantile(shrink(estimate, error, predicted, draws=500), [0.025, 0.975], 0)
    assert 0.93 < ((low <= truth) & (truth <= high)).mean() < 0.975


def test_no_error_is_no_shrinkage():
    assert (shrink(np.arange(3.0), np.zeros(3), np.zeros(3), draws=4) == np.arange(3.0)).all()
