r"""Noise of fold changes that genes share, because programs of genes vary between profiles.

Two groups of cells of one population differ by chance in how many of each type they hold, two
groups of donors in their programs; all genes of a type or program then differ together. The
difference has mean 0 and a covariance of low rank, noise noise', which is estimated within groups.

Where a fitted story predicts each cell, from its expected expression r_ig beside the group (mean
1): the covariance of the difference of group means is  sum_j cov_(i in j)(r_i) / n_j.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

LEAST = 1e-3  # share of shared variance below which a component is dropped


def shared_noise(relative: np.ndarray, group: np.ndarray) -> Tensor:
    """Loadings (G, Q) from relative expression (n, G) of cells in two groups."""
    parts = []
    for side in (0, 1):
        cells = relative[group == side] - 1
        scaled = cells / np.sqrt(max(len(cells) * (len(cells) - 1), 1))
        parts.append(_components(scaled.T))
    return torch.as_tensor(_components(np.concatenate(parts, 1)))


def _components(matrix: np.ndarray) -> np.ndarray:
    """Left singular vectors times values, (G, Q), without the negligible ones."""
    left, size, _ = np.linalg.svd(matrix, full_matrices=False)
    kept = size**2 > LEAST * (size**2).sum()
    return left[:, kept] * size[kept]
