"""Which cells train, validate and test: at random, or by whole donors or plates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

FEWEST = 12  # below, a part of the random split would be empty


@dataclass(frozen=True)
class Split:
    """Positions of the cells of each part: disjoint int64 arrays that cover all cells."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @property
    def development(self) -> np.ndarray:
        """Every cell but the test cells: what genes may be chosen on."""
        return np.concatenate([self.train, self.validation])


def random_split(n: int, seed: int) -> Split:
    """A fifth of the `n` cells to test, a tenth of the others to validation, the rest to train.

    The first `int(0.2 * n)` of `numpy.random.default_rng(seed).permutation(n)` are the test cells,
    as other packages can draw them too. Raises ValueError for fewer than 12 cells.
    """
    if n < FEWEST:
        raise ValueError(f"a split needs at least {FEWEST} cells: got {n}. Pass more cells.")
    order = np.random.default_rng(seed).permutation(n)
    rest = order[int(0.2 * n) :]
    held = len(rest) - len(rest) // 10
    return Split(train=rest[:held], validation=rest[held:], test=order[: int(0.2 * n)])


def grouped_split(groups: Sequence | np.ndarray | pd.Series, seed: int) -> Split:
    """Whole groups (donors, plates) to test (about 20% of cells), validation (8%) and train.

    `groups` is one value a cell, (N,). Groups are drawn in an order of the seed, each taken where
    it brings the part nearer to its size. Raises ValueError for missing values and for fewer
    than three groups.
    """
    codes, levels = pd.factorize(pd.Series(groups))
    if (codes < 0).any():
        first = pd.Series(groups).index[np.argmax(codes < 0)]
        raise ValueError(
            f"groups of a split must be known for every cell: found {(codes < 0).sum()} missing, "
            f"first at cell {first!r}. Fill them in or drop these cells."
        )
    if len(levels) < 3:
        raise ValueError(
            f"a grouped split needs at least 3 groups: got {len(levels)}. "
            "Split at random or group by another column."
        )
    sizes = np.bincount(codes)
    order = np.random.default_rng(seed).permutation(len(levels))
    test = _nearest(order, sizes, 0.2 * len(codes), spare=2)
    rest = order[~np.isin(order, test)]
    validation = _nearest(rest, sizes, 0.08 * len(codes), spare=1)
    train = rest[~np.isin(rest, validation)]
    parts = (np.flatnonzero(np.isin(codes, part)) for part in (train, validation, test))
    return Split(*parts)


def _nearest(order: np.ndarray, sizes: np.ndarray, target: float, spare: int) -> list[int]:
    """Groups in this order whose cells come near the target, at least one, sparing the others."""
    taken, total = [], 0
    for group in order:
        nearer = abs(total + sizes[group] - target) < abs(total - target)
        if nearer and len(order) - len(taken) > spare:
            taken.append(int(group))
            total += sizes[group]
    return taken or [int(min(order, key=lambda group: sizes[group]))]
