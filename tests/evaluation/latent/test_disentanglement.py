"""Latents made by hand: the factors themselves, turned, mixed, or nothing but noise."""

import numpy as np
import pytest

from pgm_expr.evaluation import cca, dci, mig

CELLS = 1500
TURN = np.array([[1.0, -1.0], [1.0, 1.0]]) / np.sqrt(2)  # by 45 degrees


@pytest.fixture
def factors():
    return np.random.default_rng(0).normal(size=(CELLS, 2))


@pytest.fixture
def noise():
    return np.random.default_rng(1).normal(size=(CELLS, 2))


def test_factors_in_latents_of_their_own_score_one(factors):
    """MIG is 1 less the .04 that 1500 cells in 20 x 20 bins share by chance; DCI within .03."""
    stretched = np.exp(factors[:, ::-1]) * [3.0, -0.2]  # in another order, scale and sign
    scores = dci(stretched, factors)
    assert mig(stretched, factors) > 0.9
    assert all(score > 0.97 for score in scores.values())


def test_a_turn_by_45_degrees_entangles_but_loses_nothing(factors):
    """Both dimensions tell as much of each factor: gaps vanish, a linear probe loses < .05 R^2."""
    before, after = dci(factors, factors), dci(factors @ TURN, factors)
    assert mig(factors @ TURN, factors) < 0.05
    assert after["disentanglement"] < 0.1 and after["completeness"] < 0.1
    assert after["informativeness"] > before["informativeness"] - 0.05


def test_noise_scores_nothing(factors, noise):
    """All within .1 of 0, the most that 1500 cells leave to chance."""
    assert mig(noise, factors) < 0.05
    assert all(score < 0.1 for score in dci(noise, factors).values())


def test_levels_are_factors_too(factors, noise):
    """Whole numbers are classes: accuracy 1 where known, a third by chance among three."""
    levels = np.digitize(factors, [-0.43, 0.43])
    assert mig(factors, levels) > 0.9
    assert dci(factors, levels)["informativeness"] > 0.99
    assert dci(noise, levels)["informativeness"] == pytest.approx(1 / 3, abs=0.07)


def test_a_collapsed_dimension_changes_no_score(factors):
    """A constant carries no information and no importance: exact for MIG, .01 for DCI."""
    more = np.column_stack([factors, np.full(CELLS, 7.0)])
    assert mig(more, factors) == mig(factors, factors)
    assert dci(more, factors) == pytest.approx(dci(factors, factors), abs=0.01)


def test_mig_by_hand():
    """Two binary factors; z_0 is the first and z_1 three quarters of the second.

    I(z_1; v_1) = log 2 + (3/4) log(3/4) + (1/4) log(1/4), and all other information is 0.
    """
    first, second, flip = np.unravel_index(np.arange(16), (2, 2, 4))
    latent = np.column_stack([first, np.where(flip == 0, 1 - second, second)])
    gap = 1 + (0.75 * np.log(0.75) + 0.25 * np.log(0.25)) / np.log(2)
    value = mig(latent.astype(float), np.column_stack([first, second]))
    assert value == pytest.approx((1 + gap) / 2, abs=1e-12)


def test_one_dimension_has_its_gap_to_zero(factors):
    assert mig(factors[:, :1], factors[:, :1]) == pytest.approx(1)


def test_cca_is_blind_to_invertible_linear_maps(factors, noise):
    """To 1e-9, of either side, also where a map is badly scaled."""
    rng = np.random.default_rng(2)
    other = 0.7 * factors + 0.3 * noise
    turned = other @ rng.normal(size=(2, 2)) * [1.0, 1e3] + 5.0
    assert cca(factors @ rng.normal(size=(2, 2)), factors) == pytest.approx(1, abs=1e-9)
    assert cca(factors, turned) == pytest.approx(cca(factors, other), abs=1e-9)
    assert cca(other, factors) == pytest.approx(cca(factors, other), abs=1e-9)
    assert 0.5 < cca(factors, other) < 0.99


def test_cca_of_noise_is_small_and_of_a_part_is_one(factors, noise):
    """Chance leaves about sqrt(D / n) = .04; a repeated column adds no direction."""
    assert cca(factors, noise) < 0.1
    assert cca(np.column_stack([factors, noise]), noise) == pytest.approx(1, abs=1e-9)
    assert cca(np.column_stack([factors, factors[:, 0]]), factors) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("measure", [mig, dci, cca])
def test_bad_arrays_are_refused(measure, factors):
    broken = factors.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"same n cells: got \(1500,\) and \(1500, 2\)"):
        measure(factors[:, 0], factors)
    with pytest.raises(ValueError, match=r"got \(1499, 2\) and \(1500, 2\)"):
        measure(factors[1:], factors)
    with pytest.raises(ValueError, match="need four cells and a column"):
        measure(factors[:3], factors[:3])
    with pytest.raises(ValueError, match="not finite in 1 cells"):
        measure(broken, factors)


def test_what_has_no_score_is_refused(factors):
    constant = np.zeros((CELLS, 2))
    with pytest.raises(ValueError, match="factor 0 is the same in all cells"):
        mig(factors, constant)
    with pytest.raises(ValueError, match="two columns of latent: got 1"):
        dci(factors[:, :1], factors)
    with pytest.raises(ValueError, match="two columns of factors: got 1"):
        dci(factors, factors[:, :1])
    with pytest.raises(ValueError, match="the same in all cells"):
        cca(factors, constant)
