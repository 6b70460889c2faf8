r"""Between two groups of cells: is a difference kept in what is drawn, and how sure is it?

Kept: log fold changes of real cells, l_g = log((mean_1g + e) / (mean_2g + e)) with means of
x / library and e of half a count, beside those of drawn cells: signed, so that reversed effects
score -1. What two halves of the real cells say of each other is the ceiling.

Posterior: with states of each group drawn from q(z | x), the story's expected expression at a
common library is averaged over the cells of the group, draw by draw,

    l_sg = log2(mean over group 1 of E[x_g | z_s] / mean over group 2),   s = 1 ... S

so its spread is what is unknown of the states of these cells, given the weights. P(|l_g| > delta)
says how sure a change of that size is; calls in the order of it have the expected share of false
ones that the mean of 1 - P over them is. Cells of one donor are no replicates: many
cells make it sure of these cells, not of the donors.

Lopez et al., Nature Methods 2018, https://doi.org/10.1038/s41592-018-0229-2
Boyeau et al., PNAS 2023, https://doi.org/10.1073/pnas.2209124120
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from ...inference import seeded
from ...predict import SEED, Batch, predict
from ..counts.statistics import Counts


class Kept(NamedTuple):
    """How drawn cells differ between two groups, beside how real ones do."""

    r: float  # Pearson, of signed log fold changes
    slope: float  # of drawn on real; below 1 effects are shrunk
    sign: float  # share of the strongest genes with the same sign
    top: float  # share of the strongest genes that are among the strongest, of the same sign
    ceiling: Kept | None  # the same of two halves of real cells


def kept(
    real: Counts,
    real_groups: np.ndarray,
    drawn: Counts,
    drawn_groups: np.ndarray,
    *,
    top: int = 50,
    minimum: int = 50,
    splits: int = 10,
) -> Kept:
    """Whether a difference between groups 0 and 1 is kept in drawn counts (n, G).

    Over genes with `minimum` counts in the real cells of both groups together; the ceiling is
    averaged over `splits` random halves. ValueError where a group has fewer than four cells, or
    fewer than three genes have the counts.
    """
    real, drawn = sparse.csr_array(real), sparse.csr_array(drawn)
    chosen = np.asarray(real.sum(0)).ravel() >= minimum
    sides = (("real", real_groups), ("drawn", drawn_groups))
    for name, groups in sides:
        sizes = [int((np.asarray(groups) == g).sum()) for g in (0, 1)]
        if min(sizes) < 4:
            raise ValueError(f"{name} groups have {sizes} cells, four each are needed. Pass more.")
    if chosen.sum() < 3:
        raise ValueError(f"{chosen.sum()} genes have {minimum} counts, three are needed.")
    ours = fold_change(drawn, drawn_groups)[chosen]
    rng, ceilings = np.random.default_rng(SEED), []
    for _ in range(splits):
        half = _halved(np.asarray(real_groups), rng)
        pair = (fold_change(real[half == h], np.asarray(real_groups)[half == h]) for h in (0, 1))
        ceilings.append(_compared(*(each[chosen] for each in pair), top))
    ceiling = Kept(*np.mean(ceilings, axis=0), None)
    return Kept(*_compared(fold_change(real, real_groups)[chosen], ours, top), ceiling)


def fold_change(x: Counts, groups: np.ndarray) -> np.ndarray:
    """Natural log fold change of group 1 over group 0 in mean x / library, (G,)."""
    x, groups = sparse.csr_array(x), np.asarray(groups)
    library = np.maximum(np.asarray(x.sum(1), np.float64).ravel(), 1)
    scaled = sparse.diags_array(library.mean() / library) @ x
    means = [np.asarray(scaled[groups == g].mean(0)).ravel() for g in (0, 1)]
    half = [0.5 / (groups == g).sum() for g in (0, 1)]
    return np.log(means[1] + half[1]) - np.log(means[0] + half[0])


def _halved(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """0 or 1 for each cell, evenly within each group."""
    half = np.empty(len(groups), int)
    for group in np.unique(groups):
        at = np.flatnonzero(groups == group)
        half[at] = rng.permutation(np.arange(len(at)) % 2)
    return half


def _compared(real: np.ndarray, other: np.ndarray, top: int) -> tuple[float, ...]:
    top = min(top, len(real) // 2)
    strongest = np.argsort(-np.abs(real), kind="stable")[:top]
    among = np.isin(strongest, np.argsort(-np.abs(other), kind="stable")[:top])
    same = np.sign(real[strongest]) == np.sign(other[strongest])
    centred = real - real.mean()
    r = np.corrcoef(real, other)[0, 1] if other.std() and real.std() else 0.0
    return r, centred @ other / (centred @ centred), same.mean(), (same & among).mean()


class FoldChange(NamedTuple):
    """Posterior of the log2 fold change of each gene, group 1 over group 2."""

    draws: np.ndarray  # (S, G)

    @property
    def mean(self) -> np.ndarray:
        return self.draws.mean(0)

    @property
    def sd(self) -> np.ndarray:
        return self.draws.std(0, ddof=1)

    def interval(self, level: float = 0.95) -> np.ndarray:
        """Central interval, (2, G)."""
        return np.quantile(self.draws, [(1 - level) / 2, (1 + level) / 2], axis=0)

    def probability(self, delta: float = 0.25) -> np.ndarray:
        """P(|log2 fold change| > delta), (G,)."""
        return (np.abs(self.draws) > delta).mean(0)

    def calls(self, delta: float = 0.25, false: float = 0.05) -> np.ndarray:
        """Genes to call, (G,) bool: as many as have an expected share of false calls below."""
        p = self.probability(delta)
        order = np.argsort(-p, kind="stable")
        expected = np.cumsum(1 - p[order]) / np.arange(1, len(p) + 1)
        called = np.zeros(len(p), bool)
        called[order[: int((expected <= false).sum())]] = True
        return called


@torch.no_grad()
def posterior_fold_change(
    model: nn.Module,
    guide: nn.Module,
    one: Iterable[Batch],
    other: Iterable[Batch],
    *,
    draws: int = 100,
    library: float = 1e4,
) -> FoldChange:
    """Draws of the log2 fold change between two groups of cells, at a common library.

    (S, G) is held, whatever the number of cells.
    """
    with seeded(SEED):
        sums = [_group_means(model, guide, list(group), draws, library) for group in (one, other)]
    return FoldChange((torch.log2(sums[0]) - torch.log2(sums[1])).cpu().numpy())


def _group_means(
    model: nn.Module, guide: nn.Module, batches: list[Batch], draws: int, library: float
) -> Tensor:
    """Expected counts of the average cell of a group, (S, G)."""
    rows = []
    for _ in range(draws):
        total, cells = 0.0, 0
        for batch in batches:
            at = {**batch, "library": torch.full_like(batch["library"], library)}
            total = total + predict(model, guide, batch, at).mean.double().sum(0)
            cells += len(batch["library"])
        rows.append(total / cells)
    return torch.stack(rows)
