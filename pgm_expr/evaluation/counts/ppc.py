r"""Do counts that the story draws look like real ones? Gene by gene, beside a real/real floor.

Each replicate draws every held-out cell once, at its own library, and is reduced to statistics of
its genes before the next is drawn: what is held is (replicates, genes), never cells x genes x
draws. The floor is the same statistic of as many real cells of the fit, again and again; a perfect
story can be asked for no less.

    mean, variance   median over genes of |log (drawn / real)|
    zero rate        mean over genes of |drawn - real|
    dispersion       median of |log ratio| of the index of dispersion, variance / mean
    tail             median of |log ratio| of the mean of the highest 1% of a gene's counts
    bimodality       median of |drawn - real| of Sarle's coefficient of log(1 + counts)
    correlation      1 - Pearson r of gene-gene correlations of log(1 + 1e4 x / library), over the
                     pairs of the genes that vary most

Over genes with enough counts in the held-out cells, a choice that draws cannot influence. p is
the share of replicates in which a statistic is as high as in the real cells: near 0 or 1 for more
than a twentieth of genes (2 in 41 with 40 replicates) says that they are drawn wrongly.

Gelman, Meng and Stern, Statistica Sinica 1996.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from torch import Tensor

from ...inference import seeded
from ...predict import SEED
from .statistics import gene_statistics

BY_GENE = ("mean", "variance", "zero rate", "dispersion", "tail", "bimodality")
LOG = ("mean", "variance", "dispersion", "tail")  # compared by ratios
CORRELATED = 200  # genes whose pairs are looked at
TAIL = 0.01


@dataclass(frozen=True)
class PredictiveCheck:
    """Statistics of real held-out cells, of replicates and of other real cells."""

    real: dict[str, np.ndarray]  # (G',) by statistic, of the G' genes looked at
    drawn: dict[str, np.ndarray]  # (R, G')
    floor: dict[str, np.ndarray]  # (R, G') of as many real cells of the fit
    correlation: tuple[float, float]  # Pearson r with the real pairs: of draws, of the floor

    def rows(self) -> list[dict[str, float | str]]:
        """One row a check: `drawn` and `floor` are errors, 0 is best; `extreme` is the share of
        genes whose p lies below .025 or above .975."""
        rows = [
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
        """How often a replicate of each gene is as high as the real cells, ties halved."""
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
    """Check `replicates` of the held-out cells, each drawn in minibatches (n, G) by `draw()`.

    `held_out` (N, G) are real cells that the story never saw, `reference` those of the fit, of
    which N are taken for each floor. ValueError where the reference is smaller than that, or
    fewer than three genes have `minimum` held-out counts.
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
    return PredictiveCheck(
        real,
        *(
            {name: np.stack([each[name] for each, _ in side]) for name in real}
            for side in (drawn, floor)
        ),
        tuple(
            float(np.mean([np.corrcoef(each, together)[0, 1] for _, each in side]))
            for side in (drawn, floor)
        ),
    )


def _sparse(parts: Iterable[Tensor]) -> sparse.csr_array:
    return sparse.csr_array(sparse.vstack([sparse.csr_array(p.cpu().numpy()) for p in parts]))


def _variable(x: sparse.sparray, chosen: np.ndarray) -> np.ndarray:
    """Genes of enough counts that vary most for their mean."""
    mean, variance, _ = gene_statistics(x)
    index = np.where(chosen, variance / np.maximum(mean, 1e-12), -np.inf)
    return np.argsort(-index, kind="stable")[: min(CORRELATED, int(chosen.sum()))]


def _statistics(
    x: sparse.sparray, chosen: np.ndarray, pairs: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Statistics of the genes looked at, (G',), and the correlations of pairs of some."""
    columns = sparse.csc_array(x)
    mean, variance, zero_rate = (each[chosen] for each in gene_statistics(x))
    least = 0.5 / x.shape[0]  # a gene that was never drawn counts as half a count
    found = {
        "mean": np.maximum(mean, least),
        "variance": np.maximum(variance, least),
        "zero rate": zero_rate,
        "dispersion": np.maximum(variance, least) / np.maximum(mean, least),
        "tail": np.array([_top(columns, gene) for gene in np.flatnonzero(chosen)]),
        "bimodality": _sarle(columns[:, np.flatnonzero(chosen)]),
    }
    return found, _together(columns, pairs)


def _together(x: sparse.sparray, genes: np.ndarray) -> np.ndarray:
    """Correlations of log(1 + 1e4 x / library) between some genes, one for each pair."""
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
    """Of each replicate (R, G'), averaged."""
    if name in LOG:
        return float(np.median(np.abs(np.log(some / real)), axis=1).mean())
    summary = np.mean if name == "zero rate" else np.median
    return float(summary(np.abs(some - real), axis=1).mean())


def gene_correlations(drawn: sparse.sparray, real: sparse.sparray, *, minimum: int = 50) -> float:
    """Pearson r of gene-gene correlations in drawn counts with those in real ones, (n, G) each.

    Over the pairs of the 200 genes, of `minimum` real counts or more, that vary most.
    """
    chosen = np.asarray(real.sum(0)).ravel() >= minimum
    pairs = _variable(real, chosen)
    return float(np.corrcoef(_together(drawn, pairs), _together(real, pairs))[0, 1])
