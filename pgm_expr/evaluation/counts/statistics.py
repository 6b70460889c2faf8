"""Statistics of genes: drawn against real counts, beside the floor of real against real."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from scipy import sparse

Counts: TypeAlias = np.ndarray | Any  # (n, G), dense or any sparse matrix or array of scipy


def indicator(group: np.ndarray, groups: int | None = None) -> sparse.csr_array:
    """Membership of N cells in groups, (K, N): times counts (N, G), the sums of each group.

    Parameters
    ----------
    group
        Group of each cell, (N,), from 0.
    groups
        Number of groups K; by default, up to the largest that occurs.

    Examples
    --------
    >>> (indicator(np.array([0, 1, 0])) @ np.array([[1], [2], [3]])).ravel().tolist()
    [4.0, 2.0]
    """
    shape = None if groups is None else (groups, len(group))
    return sparse.csr_array((np.ones(len(group)), (group, np.arange(len(group)))), shape)


def gene_statistics(x: Counts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, variance and share of zeros of each gene.

    Parameters
    ----------
    x
        Counts, (n, G), dense or sparse; a sparse matrix is never made dense.

    Returns
    -------
    mean, variance, zero_rate
        (G,) each; the divisor of the variance is n - 1.

    Raises
    ------
    ValueError
        For fewer than two cells, and a value that is not finite.

    Examples
    --------
    >>> [column.tolist() for column in gene_statistics(np.array([[0, 2], [4, 2]]))]
    [[2.0, 2.0], [8.0, 0.0], [0.5, 0.0]]
    """
    if x.shape[0] < 2:
        raise ValueError(f"a variance needs two cells: got {x.shape[0]}. Pass more cells.")
    statistics = _sparse_statistics(x) if sparse.issparse(x) else _dense_statistics(x)
    if not np.isfinite(statistics[1]).all():
        gene = int(np.flatnonzero(~np.isfinite(statistics[1]))[0])
        raise ValueError(f"counts must be finite: gene {gene} is not. Check what drew them.")
    return statistics


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman correlation of two figures of N cells, ties in the order of the cells.

    Examples
    --------
    >>> round(rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 20.0])), 6)
    0.5
    """
    first, second = (np.argsort(np.argsort(values)) for values in (one, other))
    return float(np.corrcoef(first, second)[0, 1])


def compare_counts(
    draws: Counts,
    held_out: Counts,
    reference: Counts,
    *,
    minimum: int = 50,
    subsets: int = 20,
    seed: int = 0,
) -> dict[str, float]:
    """Compare drawn counts with real held-out cells, gene by gene, beside a floor of real cells.

    Parameters
    ----------
    draws
        Draws of counts (not means) at the libraries of the held-out cells, (m, G): zeros and
        variances follow the depth. One draw per held-out cell is as noisy as the floor.
    held_out
        Real cells that the model has not seen, (n, G).
    reference
        Real training cells of the same kind, n or more.
    minimum
        Held-out counts from which a gene enters the figures in logs, a choice that draws cannot
        influence. In these, a mean or variance below that of half a count in all cells is taken
        as half a count, so that a gene which is never drawn counts against the model.
    subsets
        Random subsets of n reference cells that the floor is averaged over.
    seed
        Of the subsets.

    Returns
    -------
    dict
        Figures, each with its floor, `<name>_floor` (`zero_rate_floor` for `zero_rate_mae`): the
        same comparison with reference cells in the place of draws, which a perfect model reaches.

        zero_rate_mae           mean over all genes of |share of zeros, draws - held out|
        mean_slope              least-squares slope of log mean of draws on log mean held out
        variance_slope          the same for variances
        mean_log_ratio          median over genes of |log(mean of draws / mean held out)|
        variance_log_ratio      the same for variances
        total_variance_ratio    sum of variances over all genes, draws / held out

    Raises
    ------
    ValueError
        Where numbers of genes differ, fewer than three genes have `minimum` counts, or the
        reference has fewer cells than are held out.

    Examples
    --------
    >>> noise = np.random.default_rng(0)
    >>> draws, held_out, reference = (noise.poisson(5, (n, 6)) for n in (40, 40, 200))
    >>> figures = compare_counts(draws, held_out, reference)
    >>> abs(figures["total_variance_ratio"] - 1) < 0.5
    True
    """
    shapes = [x.shape for x in (draws, held_out, reference)]
    if len({genes for _, genes in shapes}) > 1:
        raise ValueError(
            f"draws, held-out and reference differ in genes: got {shapes}. Pass the same genes."
        )
    n, available = shapes[1][0], shapes[2][0]
    if available < n:
        raise ValueError(f"the floor needs {n} reference cells: got {available}. Pass more.")
    target = gene_statistics(held_out)
    chosen = target[0] * n >= minimum - 0.5  # totals are whole, a mean times n only nearly
    if chosen.sum() < 3:
        raise ValueError(
            f"{chosen.sum()} genes have {minimum} held-out counts, three are needed. "
            "Lower `minimum` or hold out more cells."
        )
    if sparse.issparse(reference):
        reference = sparse.csr_array(reference)  # not every sparse format gives out rows
    rng = np.random.default_rng(seed)
    picks = (rng.choice(available, n, replace=False) for _ in range(subsets))
    floors = [_differences(reference[pick], target, n, chosen) for pick in picks]
    found = _differences(draws, target, n, chosen)
    for key in floors[0]:
        name = "zero_rate" if key == "zero_rate_mae" else key
        found[f"{name}_floor"] = float(np.mean([each[key] for each in floors]))
    return found


def _differences(
    x: Counts, target: tuple[np.ndarray, ...], n: int, chosen: np.ndarray
) -> dict[str, float]:
    """The six figures of `x` against the statistics of the n held-out cells."""
    mean, variance, zero_rate = gene_statistics(x)
    log_mean, log_target_mean = _log(mean[chosen], n), _log(target[0][chosen], n)
    log_variance, log_target_variance = _log(variance[chosen], n), _log(target[1][chosen], n)
    return {
        "zero_rate_mae": float(np.abs(zero_rate - target[2]).mean()),
        "mean_slope": _slope(log_target_mean, log_mean),
        "variance_slope": _slope(log_target_variance, log_variance),
        "mean_log_ratio": float(np.median(np.abs(log_mean - log_target_mean))),
        "variance_log_ratio": float(np.median(np.abs(log_variance - log_target_variance))),
        "total_variance_ratio": float(variance.sum() / target[1].sum()),
    }


def _log(statistic: np.ndarray, n: int) -> np.ndarray:
    return np.log(np.maximum(statistic, 0.5 / n))


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    centred = x - x.mean()
    return float(centred @ y / (centred @ centred))


def _dense_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean = x.mean(0, dtype=np.float64)
    return mean, x.var(0, dtype=np.float64, ddof=1), (x == 0).mean(0)


def _sparse_statistics(x: sparse.sparray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # Sums over stored entries. Squares are taken after centring: the difference of the mean
    # square and the squared mean would cancel for a gene that hardly varies.
    x = sparse.csr_array(x)
    if not x.has_canonical_format:
        x = x.copy()
        x.sum_duplicates()
    n, genes = x.shape
    mean = np.bincount(x.indices, x.data, genes) / n
    stored = np.bincount(x.indices, minlength=genes)
    squares = np.bincount(x.indices, (x.data - mean[x.indices]) ** 2, genes)
    variance = (squares + (n - stored) * mean**2) / (n - 1)
    return mean, variance, 1 - np.bincount(x.indices, x.data != 0, genes) / n
