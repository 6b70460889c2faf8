"""Differences of variants: by numpy, by components of simulated fits, by refitted estimators."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from pgm_expr.evaluation import Difference, difference
from pgm_expr.evaluation.bounds.differences import RATIO, paired

CORRELATION = RATIO / (1 + RATIO)


def fits(values):
    """Scores by split and seed from nats, (J, S, N)."""
    return [[{"iwae_4k": cells} for cells in split] for split in values]


def nats(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def test_one_fit_is_the_paired_difference_over_cells():
    """Cells differ by 50 nats, which pairing removes."""
    cells = 50 * nats(300)
    one, other = cells + nats(300, seed=1), cells + nats(300, seed=2) - 1
    found = difference(fits([[one]]), fits([[other]]))
    gap = (one - other).numpy()
    assert found.mean == pytest.approx(gap.mean())
    assert found.se_cells == pytest.approx(stats.sem(gap)) and found.se_within == found.se_cells
    assert found.se_seeds is found.se_splits is found.se is None and not found.certain


def test_the_total_of_single_fits_is_that_of_nadeau_and_bengio():
    """With one seed, and cells that vary little: (1/J + n_test/n_train) s^2."""
    gaps = nats(5, 1, 1) + 0.01 * nats(5, 1, 40, seed=1)
    found = paired([*gaps])
    means = gaps.mean((1, 2)).numpy()
    assert found.se == pytest.approx(math.sqrt((1 / 5 + RATIO) * means.var(ddof=1)))
    wider = paired([*gaps], ratio=1.0)
    assert wider.se == pytest.approx(math.sqrt((1 / 5 + 1) * means.var(ddof=1)))


def test_parts_are_those_of_an_analysis_of_variance():
    """Two-way in each split, seeds and cells crossed; mean squares by numpy."""
    gaps = nats(3, 1, 1) + nats(3, 4, 1, seed=1) + nats(3, 1, 50, seed=2) + nats(3, 4, 50, seed=3)
    found, by_cell, by_seed = paired([*gaps]), [], []
    for gap in gaps.numpy():
        rest = gap - gap.mean(0) - gap.mean(1, keepdims=True) + gap.mean()
        noise = (rest**2).sum() / (3 * 49)
        between = 50 * gap.mean(1).var(ddof=1)
        by_seed.append((between - noise) / 50 / 4)
        by_cell.append(gap.mean(0).var(ddof=1) / 50)
    cells, seeds = (1 - CORRELATION) * np.mean(by_cell), np.mean(by_seed)
    assert found.se_cells == pytest.approx(math.sqrt((1 / 3 + RATIO) * cells))
    assert found.se_seeds == pytest.approx(math.sqrt(seeds / 3))
    rest = gaps.mean((1, 2)).var().item() - seeds - cells
    assert found.se_splits == pytest.approx(math.sqrt((1 / 3 + RATIO) * max(0.0, rest)))
    parts = (found.se_cells, found.se_seeds, found.se_splits)
    assert found.se == pytest.approx(math.hypot(*parts))


@pytest.mark.parametrize("large", ["cells", "splits"])
def test_the_part_that_varies_is_the_part_that_is_large(large):
    """Means of squares over 40 comparisons of 8 splits and 6 seeds."""
    cells, seeds, splits = (1.0 if large == name else 0.1 for name in ("cells", "seeds", "splits"))
    found = []
    for i in range(0, 200, 5):
        of_fits = splits * nats(8, 1, 1, seed=i) + seeds * nats(8, 6, 1, seed=i + 1)
        found.append(paired([*of_fits + 10 * cells * nats(8, 1, 100, seed=i + 2)]))
    names = ("cells", "seeds", "splits")
    parts = {name: np.mean([getattr(f, f"se_{name}") ** 2 for f in found]) for name in names}
    assert max(parts, key=parts.get) == large


def test_seeds_that_vary_are_no_splits_that_vary():
    """With six seeds a split the part of splits stays near 0 where there is none."""
    found = [
        paired([*nats(8, 6, 1, seed=i) + 0.1 * nats(8, 1, 100, seed=i + 99)]) for i in range(40)
    ]
    seeds = np.mean([each.se_seeds**2 for each in found])
    assert seeds == pytest.approx(1 / 6 / 8, rel=0.1)  # 5 standard errors are 0.11
    assert np.mean([each.se_splits**2 for each in found]) < (1 / 8 + RATIO) / 6 / 4


def test_fits_without_a_partner_are_left_out():
    values = nats(2, 3, 20)
    found = difference(fits(values), fits(values[:, :2] - 1.0))
    assert found.mean == pytest.approx(1.0) and found.se == pytest.approx(0.0, abs=1e-7)
    assert found.certain and not difference(fits(values), fits(values)).certain


@pytest.mark.parametrize("splits, limit", [(2, 12.71), (5, 2.776), (8, 2.365)])
def test_certain_by_students_t(splits, limit):
    def seen(mean):
        return Difference(mean, se_cells=1.0, se_seeds=None, se_splits=0.0, splits=splits)

    assert seen(limit + 0.01).certain and seen(-limit - 0.01).certain
    assert not seen(limit - 0.01).certain and not seen(-limit + 0.01).certain


def of_estimators(rng, splits, seeds=1, n=200):
    """Differences of two predictors, the training means of two features with noise of each seed.

    They are equally good; which is better in one data set depends on its cells and seeds.
    """
    x = rng.normal(size=(n, 2))
    gaps = []
    for split in range(splits):
        order = np.random.default_rng(split).permutation(n)
        test, train = order[: n // 5], order[n // 5 + n // 12 :]
        noise = 0.3 * rng.normal(size=(seeds, 1, 2))
        loss = (x[test] - x[train].mean(0) - noise) ** 2
        gaps.append(torch.from_numpy(loss[..., 0] - loss[..., 1]))
    return gaps


CASES = [(2, 1), (3, 2), (5, 1), (5, 3), (8, 1), (8, 3)]  # splits, seeds


@pytest.mark.parametrize("splits, seeds", CASES)
def test_equal_predictors_are_told_apart_in_at_most_5_percent(splits, seeds):
    """400 data sets: at 5% more than 33 occur once in 1,000 times."""
    rng = np.random.default_rng(0)
    found = [paired(of_estimators(rng, splits, seeds)) for _ in range(400)]
    assert sum(one.certain for one in found) <= 33
    assert sum(abs(one.mean) > 2 * one.se for one in found) <= 33


@pytest.mark.parametrize("splits, seeds", CASES)
def test_the_standard_error_is_the_spread_over_data_sets(splits, seeds):
    """0.95 to 1.5 times the standard deviation, which has a relative error of 0.035."""
    rng = np.random.default_rng(1)
    found = [paired(of_estimators(rng, splits, seeds)) for _ in range(400)]
    error = math.sqrt(np.mean([one.se**2 for one in found]))
    assert 0.95 < error / np.std([one.mean for one in found]) < 1.5


def test_without_the_correction_for_overlap_they_would_be_told_apart_too_often():
    rng = np.random.default_rng(0)
    found = [paired(of_estimators(rng, 8, 3), ratio=0.0) for _ in range(400)]
    assert sum(abs(one.mean) > 2 * one.se for one in found) > 33
