"""Clusters of planted Gaussians, their number, and an index by hand."""

import numpy as np
import pytest

from pgm_expr.evaluation import agreement, find_clusters

CENTRES = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])


@pytest.fixture
def planted():
    """Three groups, one long and thin: k-means would cut it."""
    rng = np.random.default_rng(0)
    types = np.repeat([0, 1, 2], [300, 200, 100])
    spread = np.where(types[:, None] == 0, [0.3, 2.5], [0.7, 0.7])
    return CENTRES[types] + spread * rng.normal(size=(600, 2)), types


def test_finds_planted_clusters_and_their_number(planted):
    latent, types = planted
    found = find_clusters(latent, range(1, 7))
    assert found.components == 3 and set(found.labels) == {0, 1, 2}
    assert found.bic.keys() == set(range(1, 7)) and min(found.bic, key=found.bic.get) == 3
    assert agreement(found.labels, types) > 0.95


def test_the_bic_of_one_cluster_is_the_closed_form():
    """p log n - 2 log likelihood of the Gaussian at mean and covariance, p = D + D (D + 1) / 2."""
    latent = np.random.default_rng(1).normal(size=(400, 3)) @ np.diag([1.0, 2.0, 3.0])
    n, d = latent.shape
    _, log_det = np.linalg.slogdet(np.cov(latent.T, bias=True) + 1e-6 * np.eye(d))
    likelihood = -n / 2 * (d * np.log(2 * np.pi) + log_det + d)
    expected = (d + d * (d + 1) / 2) * np.log(n) - 2 * likelihood
    found = find_clusters(latent, range(1, 4))
    assert found.components == 1 and not found.labels.any()
    assert found.bic[1] == pytest.approx(expected, abs=0.01)


def test_the_seed_repeats_and_labels_do_not_depend_on_units(planted):
    latent, _ = planted
    first, again = (find_clusters(latent, [3], seed=4).labels for _ in range(2))
    assert np.array_equal(first, again)
    assert agreement(find_clusters(100 * latent, [3], seed=4).labels, first) > 0.99


def test_no_more_clusters_than_cells():
    latent = np.random.default_rng(0).normal(size=(4, 2))
    assert find_clusters(latent, range(1, 16)).bic.keys() == set(range(1, 5))


def test_agreement_leaves_unknown_types_out_and_ignores_names():
    """2 x 2 table [[2, 1], [0, 2]] by hand: (2 - 1.6) / (4 - 1.6) = 1/6."""
    assert agreement([5, 5, 3, 3, 9], [0, 0, 1, 1, -1]) == 1.0
    assert agreement([0, 0, 1, 1, 1], [0, 0, 0, 1, 1]) == pytest.approx(1 / 6)


@pytest.mark.parametrize("latent", [np.ones(5), np.array([[1.0], [np.nan]])])
def test_refuses_what_is_no_latent(latent):
    with pytest.raises(ValueError, match="finite numbers of shape"):
        find_clusters(latent)
