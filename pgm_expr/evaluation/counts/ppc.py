r"""Predictive checks: statistics of drawn counts, gene by gene, beside a floor of real cells.

Each replicate draws every held-out cell once, at its library, and is reduced to statistics of its
genes before the next is drawn: what is held is (replicates, genes), never cells x genes x draws.
The floor is the same statistic of as many real cells of the fit, repeatedly: a perfect story
reaches it.

    mean, variance   median over genes of |log (drawn / real)|
    zero rate        mean over genes of |drawn - real|
    dispersion       median of |log ratio| of the index of dispersion, variance / mean
    tail             median of |log ratio| of the mean of the highest 1% of a gene's counts
    bimodality       median of |drawn - real| of Sarle's coefficient of log(1 + counts)
    correlation      1 - Pearson r of gene-gene correlations of log(1 + 1e4 x / library), over the
                     pairs of the genes that vary most

Over genes with enough counts in the held-out cells, a choice that draws cannot influence. p is
the share of replicates in which a statistic is as high as in the real cells: near 0 or 1 for more
than 5% of genes (2 in 41 with 40 replicates), they are drawn wrongly.

Gelman, Meng and Stern, Statistica Sinica 1996.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from torch import Tensor

from ...inference import seeded
from ...predict import SEED
from .replicates import exchanged
from .statistics import gene_statistics

BY_GENE = ("mean", "variance", "zero rate", "dispersion", "tail", "bimodality")
LOG = ("mean", "variance", "dispersion", "tail")  # compared by ratios
CORRELATED = 200  # genes whose pairs are compared
TAIL = 0.01


@dataclass(frozen=True)
class PredictiveCheck:
    """Statistics of real held-out cells, of replicates and of other real cells.

    Parameters
    ----------
    real
        Of the G' genes with enough counts, (G',) by statistic.
    drawn
        Of R replicates, (R, G').
    floor
        Of R samples of as many real cells of the fit, (R, G').
    correlation
        Pearson r of gene-gene correlations with the real ones: of draws, and of the floor.
    """

    real: dict[str, np.ndarray]
    drawn: dict[str, np.ndarray]
    floor: dict[str, np.ndarray]
    correlation: tuple[float, float]

    def rows(self) -> list[dict[str, Any]]:
        """One row per check.

        `drawn` and `floor` are errors, 0 is best; `extreme` is the share of genes whose p is
        below 0.025 or above 0.975.
        """
        rows: list[dict[str, Any]] = [
            {
                "check": name,
                "drawn": _error(name, self.drawn[name], self.real[name]),
                "floor": _error(name, self.floor[name], self.real[name]),
                "extreme": float(np.mean(np.abs(self.p(name) - 0.5) > 0.475)),
            }
            for name in BY_GENE
        ]
        r, ceiling = self.correlation
        return [*rows, {"check": "correlation", "drawn": 1 - r, "floor": 1 - ceiling}]

    def p(self, name: str) -> np.ndarray:
        """Share of replicates in which a gene is as high as in the real cells, ties halved."""
        drawn, real = self.drawn[name], self.real[name]
        return ((drawn > real).sum(0) + 0.5 * (drawn == real).sum(0) + 0.5) / (len(drawn) + 1)


def predictive_check(
    draw: Callable[[], Iterable[Tensor]],
    held_out: sparse.sparray,
    reference: sparse.sparray,
    *,
    replicates: int = 40,
    minimum: int = 50,
) -> PredictiveCheck:
    """Compare replicates of the held-out cells with the real ones.

    Parameters
    ----------
    draw
        Function that draws all held-out cells once, in minibatches (n, G) of counts.
    held_out
        Real cells that the story has not seen, (N, G).
    reference
        Real cells of the fit, N or more, of which N are taken for each floor.
    replicates
        Number R of replicates and of floors.
    minimum
        Held-out counts from which a gene is compared.

    Raises
    ------
    ValueError
        Where the reference has fewer than N cells, or fewer than three genes have `minimum`
        held-out counts.

    Examples
    --------
    >>> import torch
    >>> noise = np.random.default_rng(0)
    >>> held_out, reference = (sparse.csr_array(noise.poisson(5, (n, 6))) for n in (40, 200))
    >>> rate = torch.full((40, 6), 5.0)
    >>> check = predictive_check(lambda: [torch.poisson(rate)], held_out, reference)
    >>> [row["check"] for row in check.rows()][:3]
    ['mean', 'variance', 'zero rate']
    """
    n, available = held_out.shape[0], reference.shape[0]
    if available < n:
        raise ValueError(f"the floor needs {n} cells of the fit: got {available}. Check fewer.")
    chosen = np.asarray(held_out.sum(0)).ravel() >= minimum
    if chosen.sum() < 3:
        raise ValueError(
            f"{chosen.sum()} genes have {minimum} held-out counts, three are needed. Hold out "
            "more cells."
        )
    pairs = _variable(held_out, chosen)
    rng = np.random.default_rng(SEED)
    with seeded(SEED):
        drawn = [_statistics(_sparse(draw()), chosen, pairs) for _ in range(replicates)]
    picks = (np.sort(rng.choice(available, n, replace=False)) for _ in range(replicates))
    floor = [_statistics(reference[pick], chosen, pairs) for pick in picks]
    real, together = _statistics(held_out, chosen, pairs)
    ours, theirs = (
        {name: np.stack([each[name] for each, _ in side]) for name in real}
        for side in (drawn, floor)
    )
    r, ceiling = (
        float(np.mean([np.corrcoef(each, together)[0, 1] for _, each in side]))
        for side in (drawn, floor)
    )
    return PredictiveCheck(real, ours, theirs, (r, ceiling))


def exchange_check(
    versions: Sequence[sparse.sparray], *, minimum: int = 50, sets: int = 100
) -> list[dict[str, Any]]:
    """Errors of replicates against real cells, beside errors of replicates among themselves.

    Parameters
    ----------
    versions
        Counts of the real cells, then of each of their replicates (`replicates`), (N, G) each.
    minimum
        Mean count over versions, in all cells together, from which a gene is compared.
    sets
        Number of sets of exchanged versions.

    Returns
    -------
    list
        One row per check: `error` of replicates, `expected` where the story is true, and `p`,
        corrected for the number of checks.

    Raises
    ------
    ValueError
        Where fewer than three genes have that count.

    Examples
    --------
    >>> noise = np.random.default_rng(0)
    >>> versions = [sparse.csr_array(noise.poisson(5, (40, 6))) for _ in range(5)]
    >>> [row["check"] for row in exchange_check(versions, sets=5)][:2]
    ['mean', 'variance']
    """
    cells, rows = versions[0].shape[0], sparse.csr_array(sparse.vstack([*versions]))
    chosen = np.asarray(rows.sum(0)).ravel() >= minimum * len(versions)
    if chosen.sum() < 3:
        raise ValueError(
            f"{chosen.sum()} genes have {minimum} counts, three are needed. Hold out more cells."
        )
    pairs = _variable(rows, chosen)
    found = exchanged(
        lambda version: _statistics(rows[version * cells + np.arange(cells)], chosen, pairs),
        _errors,
        versions=len(versions),
        cells=cells,
        sets=sets,
    )
    columns = zip((*BY_GENE, "correlation"), *(each.tolist() for each in found), strict=True)
    return [dict(zip(("check", "error", "expected", "p"), row, strict=True)) for row in columns]


Statistics = tuple[dict[str, np.ndarray], np.ndarray]  # by gene, and correlations of pairs


def _errors(one: Statistics, rest: Sequence[Statistics]) -> np.ndarray:
    """Error of each check, averaged over the other sets."""
    real, together = one
    by_gene = [_error(name, np.stack([s[name] for s, _ in rest]), real[name]) for name in BY_GENE]
    r = np.mean([np.corrcoef(each, together)[0, 1] for _, each in rest])
    return np.array([*by_gene, 1 - r])


def _sparse(parts: Iterable[Tensor]) -> sparse.csr_array:
    return sparse.csr_array(sparse.vstack([sparse.csr_array(p.cpu().numpy()) for p in parts]))


def _variable(x: sparse.sparray, chosen: np.ndarray) -> np.ndarray:
    """Chosen genes with the highest index of dispersion."""
    mean, variance, _ = gene_statistics(x)
    index = np.where(chosen, variance / np.maximum(mean, 1e-12), -np.inf)
    return np.argsort(-index, kind="stable")[: min(CORRELATED, int(chosen.sum()))]


def _statistics(x: sparse.sparray, chosen: np.ndarray, pairs: np.ndarray) -> Statistics:
    """Statistics of the chosen genes, (G',), and the correlations of pairs of some."""
    columns = sparse.csc_array(x)
    mean, variance, zero_rate = (each[chosen] for each in gene_statistics(x))
    least = 0.5 / x.shape[0]  # a gene that was never drawn counts as half a count
    found = {
        "mean": np.maximum(mean, least),
        "variance": np.maximum(variance, least),
        "zero rate": zero_rate,
        "dispersion": np.maximum(variance, least) / np.maximum(mean, least),
        "tail": np.array([_top(columns, int(gene)) for gene in np.flatnonzero(chosen)]),
        "bimodality": _sarle(columns[:, np.flatnonzero(chosen)]),
    }
    return found, _together(columns, pairs)


def _together(x: sparse.sparray, genes: np.ndarray) -> np.ndarray:
    """Correlations of log(1 + 1e4 x / library) between some genes, one per pair."""
    library = np.asarray(x.sum(1), np.float64).ravel()
    log = np.log1p(1e4 * x[:, genes].toarray() / np.maximum(library, 1)[:, None])
    log += 1e-9 * np.arange(len(log))[:, None]  # a gene that was never drawn has a correlation too
    return np.corrcoef(log.T)[np.triu_indices(len(genes), 1)]


def _top(columns: sparse.csc_array, gene: int) -> float:
    """Mean of the highest 1% of a gene's counts, zeros among them; at least half a count."""
    values = columns.data[columns.indptr[gene] : columns.indptr[gene + 1]]
    number = max(1, round(TAIL * columns.shape[0]))
    highest = np.sort(values)[-number:]
    return max(float(highest.sum()) / number, 0.5 / number)


def _sarle(columns: sparse.csc_array) -> np.ndarray:
    """(skewness^2 + 1) / kurtosis of log(1 + counts), (G,): 5/9 if uniform, 1 if in two points."""
    n, genes = columns.shape
    gene = np.repeat(np.arange(genes), np.diff(columns.indptr))
    values, zeros = np.log1p(columns.data), n - np.diff(columns.indptr)
    mean = np.bincount(gene, values, genes) / n
    centred = values - mean[gene]
    two, three, four = (
        (np.bincount(gene, centred**k, genes) + zeros * (-mean) ** k) / n for k in (2, 3, 4)
    )
    two = np.maximum(two, 1e-12)
    return (three**2 / two**3 + 1) / np.maximum(four / two**2, 1.0)


def _error(name: str, some: np.ndarray, real: np.ndarray) -> float:
    """Error of each replicate (R, G'), averaged over replicates."""
    if name in LOG:
        return float(np.median(np.abs(np.log(some / real)), axis=1).mean())
    summary = np.mean if name == "zero rate" else np.median
    return float(summary(np.abs(some - real), axis=1).mean())


def gene_correlations(drawn: sparse.sparray, real: sparse.sparray, *, minimum: int = 50) -> float:
    """Pearson r of gene-gene correlations in drawn counts with those in real ones.

    Over the pairs of the 200 genes with the highest index of dispersion.

    Parameters
    ----------
    drawn, real
        Counts, (n, G) each.
    minimum
        Real counts from which a gene is compared.
    """
    chosen = np.asarray(real.sum(0)).ravel() >= minimum
    pairs = _variable(real, chosen)
    return float(np.corrcoef(_together(drawn, pairs), _together(real, pairs))[0, 1])
