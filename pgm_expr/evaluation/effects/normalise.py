"""Sizes of profiles: totals, times factors that leave the typical gene unchanged.

A few strongly expressed genes that rise lower the share of all others. The factor of a profile is
the median ratio of its shares to those of the average profile, over genes that all profiles count,
as DESeq takes it. Cells are too sparse for factors of their own and have that of their group.

Anders and Huber, Genome Biology 2010, https://doi.org/10.1186/gb-2010-11-10-r106
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from ..counts.statistics import indicator

COUNTS, GENES = 10, 50  # counts of a gene in each sum, and genes, that factors are taken from


def factors(totals: np.ndarray) -> np.ndarray:
    """Factors (R,), of geometric mean 1, of sums of counts (R, G); 1 where genes are too few."""
    share = totals / totals.sum(1, keepdims=True).clip(1)
    common = (totals >= COUNTS).all(0)
    if common.sum() < GENES:
        return np.ones(len(totals))
    log_share = np.log(share[:, common])
    ratio = np.median(log_share - log_share.mean(0), axis=1)
    return np.exp(ratio - ratio.mean())


def sizes(x: sparse.csr_array, unit: np.ndarray) -> np.ndarray:
    """Size of each profile (n,): its total times the factor of its `unit` (n,)."""
    codes = np.unique(unit, return_inverse=True)[1]
    library = np.asarray(x.sum(1), np.float64).ravel().clip(1)
    return library * factors((indicator(codes) @ x).toarray())[codes]
