r"""Counts of two groups, as a negative binomial likelihood of log fold changes reads them.

    x_ig ~ NegativeBinomial(mean = size_i relative_ig exp(intercept_bg + effect_g group_i), phi_g)

for profile i (a cell, or the sum of a replicate) of block b. `relative` is what a fitted story
expects of the profile beside the average of its group; it is 1 where there is no story.

The likelihood of intercepts and effects depends on counts through sums of profiles of the same
block, group and expected size, and, by its normalising constant, through how often each count
occurs. Profiles are therefore summed within bins of size, which makes the cost independent of
their number: 100,000 cells cost what 100 do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from ..counts.statistics import Counts, indicator

BINS = 40  # of size, for each block and group
CHUNK = 2_000_000  # entries held at a time


@dataclass(frozen=True)
class Profiles:
    """Counts of profiles (cells, or sums of the cells of a replicate) in two groups.

    Parameters
    ----------
    x
        Counts, (n, G).
    size
        Exposure of each profile, (n,): its total, times a normalisation factor.
    group
        0 or 1, (n,): effects are of group 1 over group 0.
    block
        Profiles of one block share an intercept, (n,); one block by default.
    relative
        Expression of each profile beside its group, of mean 1 within each group, (n, G).
    """

    x: Counts
    size: np.ndarray
    group: np.ndarray
    block: np.ndarray | None = None
    relative: np.ndarray | None = None

    def genes(self, at: np.ndarray) -> Profiles:
        """The same profiles in some genes."""
        relative = None if self.relative is None else self.relative[:, at]
        x = sparse.csr_array(self.x)[:, at]
        return Profiles(x, self.size, self.group, self.block, relative)

    @cached_property
    def rows(self) -> Rows:
        """Sums of the profiles of equal block and group and of similar size."""
        blocks = np.zeros(len(self.size), int) if self.block is None else np.asarray(self.block)
        codes = np.unique(blocks, return_inverse=True)[1] * 2 + np.asarray(self.group)
        labels, offset = np.empty(len(codes), int), 0
        for code in np.unique(codes):
            at = np.flatnonzero(codes == code)
            labels[at] = offset + _bins(self.size[at])
            offset = labels[at].max() + 1
        sums = indicator(labels)
        number, first = np.bincount(labels), np.unique(labels, return_index=True)[1]
        exposure = np.reshape(self.size, (-1, 1))
        if self.relative is not None:
            exposure = exposure * self.relative
        return Rows(
            torch.as_tensor((sums @ sparse.csr_array(self.x)).toarray(), dtype=torch.double),
            torch.as_tensor(number, dtype=torch.double),
            torch.as_tensor(np.log((sums @ exposure) / number[:, None])),
            torch.as_tensor(codes[first] % 2),
            torch.as_tensor(codes[first] // 2),
        )

    @cached_property
    def occurrences(self) -> tuple[Tensor, Tensor, Tensor]:
        """Gene, count and how often it occurs, of all counts above 0, (U,) each."""
        x = sparse.coo_array(self.x)
        x.eliminate_zeros()
        genes, counts = x.coords[1].astype(np.int64), x.data.astype(np.int64)
        most = int(counts.max(initial=0)) + 1
        keys, times = np.unique(genes * most + counts, return_counts=True)
        gene, count = np.divmod(keys, most)
        return torch.as_tensor(gene), torch.as_tensor(count), torch.as_tensor(times)

    def constant(self, log_phi: Tensor) -> Tensor:
        """The part of the log likelihood that depends on counts and dispersions (G, K) alone."""
        theta = (-log_phi).exp()
        gene, count, times = self.occurrences
        found = len(self.size) * theta * -log_phi  # n theta log theta
        for at in torch.arange(len(gene)).split(max(1, CHUNK // log_phi.shape[1])):
            near = theta[gene[at]]
            term = torch.lgamma(count[at, None] + near) - torch.lgamma(near)
            found = found.index_add(0, gene[at], times[at, None] * term)
        return found


@dataclass(frozen=True)
class Rows:
    """Sums of similar profiles.

    Totals (R, G), the number of profiles (R,), log exposures (R, G) or (R, 1), groups and blocks
    (R,).
    """

    total: Tensor
    number: Tensor
    log_size: Tensor
    group: Tensor
    block: Tensor

    @property
    def blocks(self) -> int:
        """Number of blocks B."""
        return int(self.block.max()) + 1


def _bins(size: np.ndarray) -> np.ndarray:
    """Bins of similar sizes, (n,); each profile by itself where there are few."""
    if len(size) <= BINS:
        return np.arange(len(size))
    rank = np.argsort(np.argsort(size, kind="stable"), kind="stable")
    return rank * BINS // len(size)
