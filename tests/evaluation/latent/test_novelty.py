"""Distances of latents: against scipy's, and of a planted cloud."""

import numpy as np
import pytest
from scipy.spatial import distance

from pgm_expr.evaluation.latent.novelty import mahalanobis, neighbour_distance


@pytest.fixture
def clouds():
    """5,000 known latents that are correlated and on unequal scales, and 50 others like them."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(4, 4)) * [0.1, 1.0, 2.0, 5.0]
    return rng.normal(size=(5000, 4)) @ mix, rng.normal(size=(50, 4)) @ mix


def test_mahalanobis_is_scipys(clouds):
    """Shrinkage is next to none with 1,250 cells a dimension."""
    known, asked = clouds
    inverse = np.linalg.inv(np.cov(known.T))
    expected = [distance.mahalanobis(z, known.mean(0), inverse) for z in asked]
    assert np.allclose(mahalanobis(known, asked), expected, rtol=0.15)


def test_a_dimension_not_in_use_does_no_harm(clouds):
    idle = [np.c_[z, np.full(len(z), 0.3)] for z in clouds]
    assert np.allclose(mahalanobis(*idle), mahalanobis(*clouds), rtol=0.05)


def test_neighbours_are_the_nearest(clouds):
    known, asked = clouds
    expected = np.sort(distance.cdist(asked, known))[:, :7].mean(1)
    assert np.allclose(neighbour_distance(known, asked, 7), expected)


@pytest.mark.parametrize("measure", [mahalanobis, neighbour_distance])
def test_a_planted_cloud_is_the_strangest(measure):
    rng = np.random.default_rng(1)
    known = rng.normal(size=(800, 3))
    asked = np.r_[rng.normal(size=(95, 3)), rng.normal(6.0, 0.5, size=(5, 3))]
    assert set(measure(known, asked).argsort()[-5:]) == set(range(95, 100))


@pytest.mark.parametrize("known, asked", [((1, 2), (5, 2)), ((20, 2), (5, 3))])
def test_shapes_that_do_not_fit_are_refused(known, asked):
    for measure in (mahalanobis, neighbour_distance):
        with pytest.raises(ValueError, match="Pass posterior means of training cells"):
            measure(np.ones(known), np.ones(asked))
