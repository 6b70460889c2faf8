"""Splits: the published protocol, whole groups, and that nothing but n and the seed decides.

The protocol, under which other packages' figures were measured: with
`order = numpy.random.default_rng(seed).permutation(n)`, the first `int(0.2 * n)` are the test
cells.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pgm_expr.data import grouped_split, random_split

SIZES = [12, 31, 700, 2638]
DONORS = [416, 384, 304, 289, 259, 62]


def parts(split):
    return split.train, split.validation, split.test


def covers(split, n):
    """Whether each of n cells is in exactly one part."""
    return np.array_equal(np.sort(np.concatenate(parts(split))), np.arange(n))


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("n", SIZES)
def test_test_cells_are_those_of_the_protocol(n, seed):
    order = np.random.default_rng(seed).permutation(n)
    assert random_split(n, seed).test.tolist() == order[: int(0.2 * n)].tolist()


def test_the_protocols_numbers_have_not_moved():
    """First test cells as they were when the figures of other packages were measured."""
    assert random_split(12, 0).test.tolist() == [9, 2]
    assert random_split(2638, 0).test[:4].tolist() == [1292, 260, 2042, 1758]
    assert random_split(2638, 1).test[:4].tolist() == [2223, 1039, 141, 1424]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", SIZES)
def test_parts_are_disjoint_and_cover_all_cells(n, seed):
    split = random_split(n, seed)
    assert covers(split, n) and all(len(part) > 0 for part in parts(split))
    assert len(split.test) == n // 5 and len(split.validation) == (n - n // 5) // 10
    assert set(split.development) == set(split.train) | set(split.validation)


def test_validation_is_drawn_and_not_a_range_of_cells():
    """Cells may stand in the order of their kind: each tenth of them has its validation cells."""
    held = random_split(20_000, 0).validation
    shares = np.bincount(held // 2000, minlength=10) / len(held)
    assert np.abs(shares - 0.1).max() < 4 * (0.09 / len(held)) ** 0.5  # fails for 1 in 1,500


def test_seeds_differ_and_repeat():
    for part in ("train", "validation", "test"):
        first, again, other = (set(getattr(random_split(700, s), part)) for s in (0, 0, 1))
        assert first == again != other


@pytest.mark.parametrize("n", [0, 1, 11])
def test_too_few_cells(n):
    with pytest.raises(ValueError, match=f"at least 12 cells: got {n}"):
        random_split(n, 0)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("sizes", [[10] * 40, [90, 5, 5], [1, 1, 1], DONORS], ids=str)
def test_no_group_is_in_two_parts(sizes, seed):
    groups = np.repeat([f"donor{i}" for i in range(len(sizes))], sizes)
    groups = np.random.default_rng(seed).permutation(groups)
    split = grouped_split(groups, seed)
    donors = [set(groups[part]) for part in parts(split)]
    assert all(donors) and sum(map(len, donors)) == len(sizes)
    assert covers(split, len(groups))


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_as_near_as_groups_allow(seed):
    groups = np.repeat(np.arange(50), 20)
    split = grouped_split(groups, seed)
    assert len(split.test) == 200
    assert len(split.validation) == 80


@pytest.mark.parametrize("seed", range(20))
def test_no_other_group_would_bring_the_test_part_nearer(seed):
    """To a fifth of the cells, by adding a training group to it."""
    sizes = np.array([*DONORS, 30, 30, 50, 120])
    groups = np.repeat(np.arange(len(sizes)), sizes)
    split = grouped_split(groups, seed)
    away = abs(len(split.test) - 0.2 * len(groups))
    others = np.unique(groups[split.train])
    assert (np.abs(len(split.test) + sizes[others] - 0.2 * len(groups)) >= away).all()


def test_a_group_too_large_stays_in_training():
    groups = ["big"] * 90 + ["left"] * 5 + ["right"] * 5
    for seed in range(6):
        assert (grouped_split(groups, seed).train == np.arange(90)).all()


def test_grouped_split_follows_the_seed():
    groups = np.repeat(np.arange(50), 20)
    first, again, other = (grouped_split(groups, seed) for seed in (1, 1, 0))
    for one, two in zip(parts(first), parts(again), strict=True):
        np.testing.assert_array_equal(one, two)
    assert set(first.test) != set(other.test)


def test_names_of_groups_decide_nothing():
    """Donors under other names, of any type, are split the same."""
    codes = np.random.default_rng(0).integers(12, size=300)
    _, codes = np.unique(codes, return_inverse=True)
    named = [codes, 100 - codes, np.array([f"donor{code}" for code in codes])]
    named.append(pd.Series(pd.Categorical(named[2]), index=[f"cell{i}" for i in range(300)]))
    for groups in named[1:]:
        for one, two in zip(
            parts(grouped_split(codes, 4)), parts(grouped_split(groups, 4)), strict=True
        ):
            np.testing.assert_array_equal(one, two)


def test_missing_groups_are_named():
    groups = pd.Series(["a", "b", None, "c"], index=["w", "x", "y", "z"])
    with pytest.raises(ValueError, match="found 1 missing, first at cell 'y'. Fill them in"):
        grouped_split(groups, 0)


def test_too_few_groups():
    with pytest.raises(ValueError, match="at least 3 groups: got 2"):
        grouped_split(pd.Categorical(["a", "b"] * 10, categories=["a", "b", "unused"]), 0)
