r"""Direct standardisation: what observed cells say of a counterfactual, gene by gene.

Cells are compared within strata s (cell types, or clusters of states). With w_sl target cells of
stratum s and level l of the condition, w_s = sum_l w_sl, and mean shares mu_slg of observed cells,

    R_g = log2(sum_s w_s mu_scg) - log2(sum_sl w_sl mu_slg)

is the log2 fold change of the target cells when all are set to level c: effects within strata,
weighted as the target cells are. It is unconfounded where the condition does not depend on
expression within strata. Its standard error is that of the delta method, with

    var(mu_slg) = (mu_slg mean(1 / library) + phi_g mu_slg^2) / n_sl,

a negative binomial of gene dispersion phi_g, by moments within strata and levels: states that
differ within a stratum add to phi_g.

Robins, Mathematical Modelling 1986, https://doi.org/10.1016/0270-0255(86)90088-6
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from .counts.statistics import indicator

LEAST = 5  # observed cells of a level in a stratum, from which they are compared


@dataclass(frozen=True)
class Observed:
    """Mean shares of observed cells by stratum and level, with what their errors depend on.

    Parameters
    ----------
    mean
        Mean share of a gene in the cells of a stratum and level, (K, L, G).
    variance
        Of these means, (K, L, G).
    cells
        Numbers of observed cells, (K, L).
    """

    mean: np.ndarray
    variance: np.ndarray
    cells: np.ndarray

    def contrast(self, targets: np.ndarray, level: int) -> tuple[np.ndarray, np.ndarray]:
        """Log2 fold changes (G,) and standard errors (G,) of target cells set to one level.

        Parameters
        ----------
        targets
            Numbers of target cells by stratum and level, (K, L).
        level
            Position of the level.
        """
        before, after = targets.astype(float), np.zeros(targets.shape)
        after[:, level] = targets.sum(1)
        sums = [np.einsum("kl,klg->g", weight, self.mean) for weight in (after, before)]
        slope = after[..., None] / sums[0] - before[..., None] / sums[1]  # (K, L, G)
        error = np.sqrt((slope**2 * self.variance).sum((0, 1)))
        return np.log2(sums[0] / sums[1]), error / np.log(2)


def observe(
    counts: sparse.sparray | np.ndarray, strata: np.ndarray, levels: np.ndarray, shape: tuple
) -> Observed:
    """Mean shares and their errors by stratum and level; half a count is added to each group.

    Parameters
    ----------
    counts
        Counts of the observed cells, (N, G).
    strata, levels
        Codes of each cell, (N,).
    shape
        Numbers of strata and levels, (K, L).

    Examples
    --------
    >>> noise = np.random.default_rng(0)
    >>> strata, levels = np.repeat([0, 1], 200), np.tile([0, 1], 200)
    >>> counts = noise.poisson(np.where(levels == 1, [[2.0], [4.0]], [[4.0], [2.0]]).T)
    >>> found = observe(counts, strata, levels, (2, 2))
    >>> effect, error = found.contrast(np.array([[50, 0], [20, 0]]), 1)
    >>> effect.round().tolist(), bool((error < 0.2).all())
    ([-1.0, 1.0], True)
    """
    counts = sparse.csr_array(counts)
    library = np.maximum(np.asarray(counts.sum(1), float).ravel(), 1.0)
    shares = sparse.csr_array(sparse.diags_array(1 / library) @ counts)
    group = np.ravel_multi_index((strata, levels), shape)
    size = int(np.prod(shape))
    belongs = indicator(group, size)
    n = np.bincount(group, minlength=size).astype(float)
    some = np.maximum(n, 1)[:, None]
    inverse = (belongs @ (1 / library))[:, None] / some  # (KL, 1) mean of 1 / library
    raw = (belongs @ shares).toarray() / some
    square = (belongs @ shares.power(2)).toarray() / some
    mean = raw + 0.5 / library.mean() / some
    phi = _dispersion(raw, square, inverse, n[:, None])
    variance = (mean * np.where(inverse > 0, inverse, (1 / library).mean()) + phi * mean**2) / some
    full = (*shape, counts.shape[1])
    return Observed(mean.reshape(full), variance.reshape(full), n.reshape(shape).astype(int))


def _dispersion(
    mean: np.ndarray, square: np.ndarray, inverse: np.ndarray, n: np.ndarray
) -> np.ndarray:
    """Variance beyond Poisson over squared mean, pooled over groups, (G,)."""
    several = n > 1
    beyond = (square - mean**2) * n / np.maximum(n - 1, 1) - mean * inverse
    total = np.where(several, n * mean**2, 0).sum(0)
    return np.maximum(np.where(several, n * beyond, 0).sum(0), 0) / np.maximum(total, 1e-300)
