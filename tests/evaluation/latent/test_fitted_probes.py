"""Probes against scikit-learn's and algebra, and what each of them can see."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from pgm_expr.evaluation import leakage
from pgm_expr.evaluation.latent.fitted_probes import linear, neighbours, neighbours_mean, ridge


@pytest.fixture
def states():
    rng = np.random.default_rng(0)
    return rng.normal(size=(400, 3)), rng.normal(size=(100, 3))


def ring(seed, rare=0.5, cells=400):
    """Level 1 lies around level 0: no plane parts them."""
    rng = np.random.default_rng(seed)
    level = (rng.random(cells) < rare).astype(int)
    angle = rng.uniform(0, 2 * np.pi, cells)
    z = np.stack([np.cos(angle), np.sin(angle)], 1) * 4 * level[:, None]
    return z + 0.5 * rng.normal(size=z.shape), level


def test_neighbours_of_equal_levels_are_scikit_learns(states):
    z, other = states
    levels = np.repeat([3, 7], 200)
    expected = KNeighborsClassifier(15).fit(z, levels).predict(other)
    assert np.array_equal(neighbours(z, other)(levels), expected)


def test_a_rare_level_is_not_outvoted():
    """One cell in 20 is of a level that lies evenly among the other: guessed half of the time."""
    rng = np.random.default_rng(1)
    z, other = rng.normal(size=(2000, 2)), rng.normal(size=(1000, 2))
    levels = (rng.random(2000) < 0.05).astype(int)
    assert 0.3 < neighbours(z, other)(levels).mean() < 0.7


def test_the_mean_of_neighbours_is_scikit_learns(states):
    z, other = states
    numbers = np.random.default_rng(2).normal(size=(400, 5))
    expected = KNeighborsRegressor(15).fit(z, numbers).predict(other)
    assert np.allclose(neighbours_mean(z, other)(numbers), expected)


def test_ridge_is_its_closed_form(states):
    z, other = states
    numbers = z @ np.ones((3, 2)) + np.random.default_rng(2).normal(size=(400, 2))
    mean, sd = z.mean(0), z.std(0)
    a, b = (z - mean) / sd, (other - mean) / sd
    slope = np.linalg.solve(a.T @ a + np.eye(3), a.T @ numbers)
    assert np.allclose(ridge(z, other)(numbers), b @ slope + numbers.mean(0))


@pytest.mark.parametrize("rare", [0.5, 0.1])
def test_neighbours_see_a_ring_that_no_plane_parts(rare):
    sides = *ring(0, rare), *ring(1, rare)
    by = {p.__name__: leakage(*sides, probe=p, permutations=19) for p in (linear, neighbours)}
    assert by["neighbours"].accuracy > 0.95 and by["neighbours"].p == 0.05
    # a linear probe is at .5, sd .5 / sqrt(40) = .08 over the cells of a rare level
    assert abs(by["linear"].accuracy - 0.5) < 0.25
    assert abs(by["neighbours"].chance - 0.5) < 0.05


@pytest.mark.parametrize("probe", [linear, neighbours, ridge, neighbours_mean])
def test_states_that_are_not_finite_are_refused(states, probe):
    z, other = states
    z[3, 1] = np.nan
    with pytest.raises(ValueError, match="^states are not finite in 1 cells. Check the fit"):
        probe(z, other)
