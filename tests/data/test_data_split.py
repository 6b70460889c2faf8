"""Splits: the published formula, and whole groups."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pgm_expr.data import grouped_split, random_split

SIZES = {12: (9, 1, 2), 31: (23, 2, 6), 700: (504, 56, 140), 2638: (1900, 211, 527)}  # by hand


@pytest.mark.parametrize("n", SIZES)
def test_random_split_has_a_fifth_and_a_tenth_of_the_rest(n):
    split = random_split(n, seed=3)
    parts = split.train, split.validation, split.test
    assert tuple(map(len, parts)) == SIZES[n]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(n))
    np.testing.assert_array_equal(split.development, np.concatenate(parts[:2]))


def test_random_split_is_the_one_that_others_can_draw():
    """`numpy.random.default_rng(3).permutation(12)` begins with 11 and 7, as numpy has it."""
    split = random_split(12, seed=3)
    assert split.test.tolist() == [11, 7]
    assert split.train.tolist() == [2, 10, 0, 1, 4, 6, 9, 5, 3]
    assert split.validation.tolist() == [8]


def test_random_split_depends_on_the_seed():
    assert set(random_split(100, 0).test) != set(random_split(100, 1).test)


@pytest.mark.parametrize("n", [0, 1, 11])
def test_too_few_cells(n):
    with pytest.raises(ValueError, match=f"at least 12 cells: got {n}"):
        random_split(n, 0)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    "sizes", [[10] * 40, [90, 5, 5], [1, 1, 1], [416, 384, 304, 289, 259, 62]]
)
def test_no_group_is_in_two_parts(sizes, seed):
    groups = np.repeat([f"donor{i}" for i in range(len(sizes))], sizes)
    groups = np.random.default_rng(seed).permutation(groups)
    split = grouped_split(groups, seed)
    parts = [set(groups[part]) for part in (split.train, split.validation, split.test)]
    assert all(parts)
    assert sum(map(len, parts)) == len(sizes)
    everyone = np.sort(np.concatenate([split.train, split.validation, split.test]))
    np.testing.assert_array_equal(everyone, np.arange(len(groups)))


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_as_near_as_groups_allow(seed):
    groups = np.repeat(np.arange(50), 20)
    split = grouped_split(groups, seed)
    assert len(split.test) == 200
    assert len(split.validation) == 80


def test_a_group_too_large_stays_in_training():
    groups = ["big"] * 90 + ["left"] * 5 + ["right"] * 5
    for seed in range(6):
        assert (grouped_split(groups, seed).train == np.arange(90)).all()


def test_grouped_split_follows_the_seed():
    groups = np.repeat(np.arange(50), 20)
    np.testing.assert_array_equal(grouped_split(groups, 1).test, grouped_split(groups, 1).test)
    assert set(grouped_split(groups, 0).test) != set(grouped_split(groups, 1).test)


def test_missing_groups_are_named():
    groups = pd.Series(["a", "b", None, "c"], index=["w", "x", "y", "z"])
    with pytest.raises(ValueError, match="found 1 missing, first at cell 'y'. Fill them in"):
        grouped_split(groups, 0)


def test_too_few_groups():
    with pytest.raises(ValueError, match="at least 3 groups: got 2"):
        grouped_split(pd.Categorical(["a", "b"] * 10, categories=["a", "b", "unused"]), 0)
