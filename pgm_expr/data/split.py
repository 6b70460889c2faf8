"""Training, validation and test cells: at random, or by whole donors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

FEWEST = 12  # below, a part of the random split would be empty


@dataclass(frozen=True)
class Split:
    """Positions of the cells of each part: disjoint int64 arrays that cover all cells.

    Parameters
    ----------
    train, validation, test
        Cells that are trained on, that decide when to stop, and that a run is judged on.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @property
    def development(self) -> np.ndarray:
        """All cells but the test cells; genes are chosen on these."""
        return np.concatenate([self.train, self.validation])


def random_split(n: int, seed: int) -> Split:
    """Split cells at random: a fifth to test, a tenth of the others to validation.

    The first `int(0.2 * n)` of `numpy.random.default_rng(seed).permutation(n)` are the test
    cells, so that other packages can draw the same ones.

    Parameters
    ----------
    n
        Number of cells.
    seed
        Seed of the permutation.

    Returns
    -------
    The split.

    Raises
    ------
    ValueError
        For fewer than 12 cells.

    Examples
    --------
    >>> from pgm_expr.data import random_split
    >>> split = random_split(100, seed=0)
    >>> len(split.train), len(split.validation), len(split.test)
    (72, 8, 20)
    """
    if n < FEWEST:
        raise ValueError(f"a split needs at least {FEWEST} cells: got {n}. Pass more cells.")
    order = np.random.default_rng(seed).permutation(n)
    rest = order[int(0.2 * n) :]
    held = len(rest) - len(rest) // 10
    return Split(train=rest[:held], validation=rest[held:], test=order[: int(0.2 * n)])


def grouped_split(groups: Sequence | np.ndarray | pd.Series, seed: int) -> Split:
    """Split cells by whole groups: about 20% of cells to test, 8% to validation.

    Groups are drawn in random order; each is taken where it brings the part nearer to its size.

    Parameters
    ----------
    groups
        Donor, sample or plate of each cell, (N,).
    seed
        Seed of the order.

    Returns
    -------
    The split; no group is in two parts.

    Raises
    ------
    ValueError
        For missing values and for fewer than three groups.

    Examples
    --------
    >>> import numpy as np
    >>> from pgm_expr.data import grouped_split
    >>> donors = np.repeat(["d1", "d2", "d3", "d4", "d5"], 20)
    >>> np.unique(donors[grouped_split(donors, seed=0).test]).tolist()
    ['d3']
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
    taken: list[int] = []
    total = 0
    for group in order:
        nearer = abs(total + sizes[group] - target) < abs(total - target)
        if nearer and len(order) - len(taken) > spare:
            taken.append(int(group))
            total += sizes[group]
    return taken or [int(min(order, key=lambda group: sizes[group]))]
