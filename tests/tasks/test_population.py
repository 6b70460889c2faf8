"""Tails, percentiles, modes and cells needed, against distributions whose answers are known."""

import numpy as np
import pytest
from scipy import stats

from pgm_expr.tasks import predictive_summaries as population


def negative_binomial(mean, theta, size, seed=0):
    rng = np.random.default_rng(seed)
    return rng.poisson(rng.gamma(theta, np.asarray(mean) / theta, size))


def test_tails_are_those_of_the_law_within_their_errors():
    """Of 200 seeds, an estimate within two of its errors in 90 to 99% (95% expected)."""
    truth, hits = stats.nbinom(2, 2 / 12).sf(30), 0
    for seed in range(200):
        found = population.tail_probability(negative_binomial(10, 2, (1000, 1), seed), 30)
        hits += abs(found.value[0] - truth) < 2 * found.error[0]
    assert 180 <= hits <= 198


def test_tails_below_and_by_gene():
    draws = np.array([[0, 1], [2, 3], [4, 5], [6, 7]])
    assert population.tail_probability(draws, [2, 4], below=True).value.tolist() == [0.25, 0.5]
    assert population.tail_probability(draws, 2).value.tolist() == [0.5, 0.75]


def test_the_percentile_of_a_tie_is_its_middle():
    draws = np.array([[0, 0], [0, 1], [0, 2], [3, 3]])
    found = population.percentile_of([0, 5], draws)
    assert found.value.tolist() == [0.375, 1.0]
    assert found.error[1] == 0


def test_percentiles_of_cells_of_the_law_have_mean_a_half():
    draws = negative_binomial(0.3, 1, (2000, 50))
    cells = negative_binomial(0.3, 1, (400, 50), seed=1)
    mean = np.mean([population.percentile_of(cell, draws).value for cell in cells])
    assert mean == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("theta", [0.5, 2, 20])
def test_the_99_percent_tail_is_within_a_tenth(theta):
    truth = stats.nbinom(theta, theta / (theta + 20)).ppf(0.99)
    found = population.quantile(negative_binomial(20, theta, (5000, 20)))
    assert np.all((found / truth > 0.9) & (found / truth < 1.1))


def test_a_quantile_of_counts_is_a_count_and_of_few_draws_refused():
    assert population.quantile(np.arange(1, 21)[:, None], 0.5).tolist() == [10]
    with pytest.raises(ValueError, match="got 999 draws for level 0.99. Take at least 1000 draws"):
        population.quantile(np.zeros((999, 1)))
    with pytest.raises(ValueError, match="Take 0 < level < 1"):
        population.quantile(np.zeros((999, 1)), 1.0)


def two(low, high, share, theta):
    """A mixture of two negative binomials, 40 genes by 1,000 draws."""
    high_ones = np.random.default_rng(0).random((1000, 40)) < share
    return negative_binomial(np.where(high_ones, high, low), theta, (1000, 40), seed=1)


def normals(means):
    rng = np.random.default_rng(0)
    return rng.choice(means, (1000, 40)) + rng.normal(size=(1000, 40))


SHAPES = {
    "rare": (negative_binomial(0.05, 1, (1000, 40)), 1),
    "low": (negative_binomial(1, 0.5, (1000, 40)), 1),
    "middle": (negative_binomial(5, 2, (1000, 40)), 1),
    "skewed": (negative_binomial(50, 0.5, (1000, 40)), 1),
    "high": (negative_binomial(500, 10, (1000, 40)), 1),
    "normal": (normals([0]), 1),
    "uniform": (np.random.default_rng(0).uniform(size=(1000, 40)), 1),
    "constant": (np.zeros((100, 40), int), 1),
    "on or off": (two(1, 20, 0.5, 10), 2),
    "on in some": (two(0.1, 20, 0.3, 5), 2),
    "both high": (two(50, 300, 0.5, 20), 2),
    "two normals": (normals([-2, 2]), 2),
    "three normals": (normals([-4, 0, 4]), 3),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_modes_are_counted(shape):
    """Rightly for at least 38 of 40 genes."""
    draws, number = SHAPES[shape]
    assert (population.modes(draws) == number).sum() >= 38


def reached(test, x, y, n, seed, repeats=1000):
    """The share of experiments with n cells a group that see the difference."""
    rng = np.random.default_rng(seed)
    first, second = (rng.choice(side, (n, repeats)) for side in (x, y))
    return (test(first, second).pvalue < 0.05).mean()


def truly_needed(test, x, y, near):
    """Cells for 80% power, by a line through the probits of simulated powers near a guess."""
    cells = np.unique(np.round(near * np.linspace(0.75, 1.3, 8)).astype(int))
    powers = [reached(test, x, y, n, seed) for seed, n in enumerate(cells)]
    slope, start = np.polyfit(np.sqrt(cells), stats.norm.ppf(powers), 1)
    return ((stats.norm.ppf(0.8) - start) / slope) ** 2


def welch(x, y):
    return stats.ttest_ind(x, y, equal_var=False)


@pytest.mark.parametrize("ranks", [True, False])
@pytest.mark.parametrize(
    ("first", "second"), [((5, 1), (10, 1)), ((0.5, 2), (0.8, 2)), ((20, 5), (30, 5))]
)
def test_cells_needed_are_those_of_simulated_tests(first, second, ranks):
    """Within a tenth, for fold changes of 1.5 to 2 at low, middle and high expression."""
    x, y = (negative_binomial(*side, 4000, seed) for seed, side in enumerate((first, second)))
    needed = population.cells_needed(x[:, None], y[:, None], ranks=ranks).value[0]
    test = stats.mannwhitneyu if ranks else welch
    assert needed == pytest.approx(truly_needed(test, x, y, needed), rel=0.1)


def test_no_difference_needs_no_end_of_cells():
    same = negative_binomial(3, 1, (50, 2))
    for ranks in (True, False):
        found = population.cells_needed(same, same, ranks=ranks)
        assert np.isinf(found.value).all() and np.isinf(found.high).all()
    with pytest.raises(ValueError, match="got 2 and 1 genes"):
        population.cells_needed(same, same[:, :1])
    with pytest.raises(ValueError, match="got power=0.01"):
        population.cells_needed(same, same, power=0.01)


@pytest.mark.parametrize("ranks", [True, False])
def test_independent_draws_of_one_law_need_no_end_of_cells(ranks):
    """Of 2,000 genes 0.3% are expected to be finite, and 5% to have an end."""
    x, y = (negative_binomial(3, 1, (300, 2000), seed) for seed in (0, 1))
    found = population.cells_needed(x, y, ranks=ranks)
    assert np.isfinite(found.value).mean() < 0.01 and np.isfinite(found.high).mean() < 0.01
    assert np.isfinite(found.low).all()


@pytest.mark.parametrize("ranks", [True, False])
def test_intervals_of_cells_needed_hold_the_truth(ranks):
    """Of 1,000 genes from 300 draws each; the truth is that of 200,000 draws. At 5% +- 1.4%."""
    laws = (5, 2), (7, 2)
    many = (negative_binomial(*law, (200_000, 1), seed) for seed, law in enumerate(laws))
    truth = population.cells_needed(*many, ranks=ranks).value[0]
    few = (negative_binomial(*law, (300, 1000), seed) for seed, law in enumerate(laws, 2))
    found = population.cells_needed(*few, ranks=ranks)
    outside = (found.low > truth) | (found.high < truth)
    assert 80 < truth < 250 and outside.mean() < 0.065
    assert ((found.low <= found.value) & (found.value <= found.high)).all()
    sure = np.isfinite(found.value)
    assert sure.mean() > 0.5 and abs(np.median(found.value[sure]) / truth - 1) < 0.35


def test_the_interval_of_a_share_holds_a_rare_one():
    """Also where no draw is beyond the threshold, whose error is 0."""
    truth = stats.nbinom(2, 2 / 12).sf(60)
    found = population.tail_probability(negative_binomial(10, 2, (500, 2000)), 60)
    low, high = found.interval()
    assert (found.value == 0).mean() > 0.05
    assert ((low <= truth) & (truth <= high)).mean() >= 0.95


def test_the_straight_way_and_the_way_round():
    start, end = np.array([2.0, 0.0]), np.array([0.0, 4.0])
    assert np.allclose(population.interpolate(start, end, 3), [[2, 0], [1, 2], [0, 4]])
    turned = population.interpolate(start, end, 5, spherical=True)
    assert np.allclose(np.linalg.norm(turned, axis=1), [2, 2.5, 3, 3.5, 4])
    assert np.allclose(np.degrees(np.arctan2(turned[:, 1], turned[:, 0])), [0, 22.5, 45, 67.5, 90])
    same = population.interpolate(start, 2 * start, 3, spherical=True)
    assert np.allclose(same, [[2, 0], [3, 0], [4, 0]])


def test_the_way_round_keeps_the_distances_of_the_prior():
    """Midpoints of pairs of draws in 50 dimensions: straight .71 of their distance, round all."""
    ends = np.random.default_rng(0).normal(size=(200, 2, 50))
    for spherical, ratio in ((False, 0.71), (True, 1.0)):
        middle = [population.interpolate(*pair, 3, spherical=spherical)[1] for pair in ends]
        length = np.linalg.norm(middle, axis=1).mean() / np.linalg.norm(ends, axis=2).mean()
        assert length == pytest.approx(ratio, abs=0.03)


def test_opposite_states_have_no_one_way_round():
    with pytest.raises(ValueError, match="cosine -1"):
        population.interpolate([1.0, 0.0], [-2.0, 0.0], spherical=True)
    with pytest.raises(ValueError, match="Stack them"):
        population.modes(np.zeros(3))
