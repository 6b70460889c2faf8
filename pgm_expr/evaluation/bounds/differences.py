r"""The difference of two variants on held-out cells, and its standard error by source.

Variants are fitted to the same J splits of the cells, S seeds each, and score the same N test
cells. With d_jsn the difference of cell n by the fits of seed s to split j, and m_j its mean over
cells and seeds:

    cells    c = mean_j var_n(mean_s d_jsn) / N
    seeds    b = mean_j var_s(mean_n d_jsn) / S   less what cells contribute to it
    splits   a = var_j(m_j) - b - (1 - rho) c

Training sets of random splits overlap, so the m_j are correlated, and var_j(m_j) / J is too small
for their mean. Nadeau and Bengio assume a correlation of rho = n_test / (n_test + n_train), which
gives

    se^2 = (1/J + r) ((1 - rho) c + a) + b / J,   r = n_test / n_train.

Seeds are independent between splits, so only their part shrinks as 1 / J. Without further seeds
in a split, what they contribute is part of `a`.

Nadeau and Bengio, Machine Learning 2003, https://doi.org/10.1023/A:1024068626366
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from .scores import Scores

Fits = Sequence[Sequence[Scores]]  # of one variant, by split and seed
RATIO = 0.2 / 0.72  # test to training cells of `data.random_split`
LEVEL = 0.95  # of the interval outside which a difference is one


@dataclass(frozen=True)
class Difference:
    """Mean difference of two variants in nats per cell, and its standard error by source.

    Parameters
    ----------
    mean
        Mean over cells, seeds and splits.
    se_cells, se_seeds, se_splits
        What test cells, seeds and splits contribute to the standard error: their squares add up to
        that of `se`. `se_seeds` is None for one seed per split: seeds are then part of
        `se_splits`. `se_splits` is None for one split.
    splits
        Number of splits J.

    Examples
    --------
    >>> found = Difference(mean=-1.2, se_cells=0.3, se_seeds=None, se_splits=0.4, splits=5)
    >>> found.se, found.certain
    (0.5, False)
    """

    mean: float
    se_cells: float
    se_seeds: float | None
    se_splits: float | None
    splits: int

    @property
    def se_within(self) -> float:
        """Standard error over cells and seeds alone."""
        return math.hypot(self.se_cells, self.se_seeds or 0.0)

    @property
    def se(self) -> float | None:
        """Standard error over cells, seeds and splits; None for one split."""
        return None if self.se_splits is None else math.hypot(self.se_within, self.se_splits)

    @property
    def certain(self) -> bool:
        """Whether a 95% interval excludes 0 (Student's t, J - 1 degrees of freedom)."""
        if self.se is None:
            return False
        return abs(self.mean) > self.se * float(stats.t.ppf((1 + LEVEL) / 2, self.splits - 1))


def difference(
    fits: Fits, other: Fits, *, key: str = "iwae_4k", ratio: float = RATIO
) -> Difference:
    """Difference of two variants, paired over cells within each pair of fits.

    Parameters
    ----------
    fits, other
        Tensors of `score` by split and seed. Fits of the same split and seed are paired; others
        are left out.
    key
        The score: `iwae_4k`, `iwae`, `elbo`, or `validation`.
    ratio
        Number of test cells per training cell.

    Returns
    -------
    Difference
        `fits` less `other`.

    Examples
    --------
    >>> def fit(nats):
    ...     return {"iwae_4k": nats + torch.arange(9.0)}
    >>> found = difference([[fit(-10.0)], [fit(-10.5)]], [[fit(-12.0)], [fit(-12.0)]])
    >>> found.mean, round(found.se, 2)
    (1.75, 0.31)
    """
    splits = zip(fits, other, strict=False)
    pairs = [[(a[key], b[key]) for a, b in zip(*split, strict=False)] for split in splits]
    return paired([torch.stack([a - b for a, b in split]) for split in pairs], ratio)


def paired(gaps: Sequence[Tensor], ratio: float = RATIO) -> Difference:
    """Mean and standard errors of differences of cells, (S, N) for each split."""
    splits, several = len(gaps), min(map(len, gaps)) > 1
    means = torch.stack([gap.mean() for gap in gaps])
    correlation = ratio / (1 + ratio)  # of two splits, by Nadeau and Bengio
    cells = (1 - correlation) * _mean(gaps, lambda gap: gap.mean(0).var() / gap.shape[1])
    seeds = max(0.0, _mean(gaps, _over_seeds)) if several else 0.0
    factor = 1 / splits + ratio
    between = means.var().item() - seeds - cells if splits > 1 else None
    return Difference(
        mean=means.mean().item(),
        se_cells=math.sqrt(factor * cells),
        se_seeds=math.sqrt(seeds / splits) if several else None,
        se_splits=None if between is None else math.sqrt(factor * max(0.0, between)),
        splits=splits,
    )


def _over_seeds(gap: Tensor) -> Tensor:
    """Variance of the mean over S seeds, without what N cells contribute, from (S, N)."""
    seeds, cells = gap.shape
    by_seed = gap.mean(1, keepdim=True)
    rest = gap - by_seed - gap.mean(0) + gap.mean()
    noise = rest.square().sum() / ((seeds - 1) * (cells - 1))
    return (by_seed.var() - noise / cells) / seeds


def _mean(gaps: Sequence[Tensor], of: Callable[[Tensor], Tensor]) -> float:
    return torch.stack([of(gap) for gap in gaps]).mean().item()
