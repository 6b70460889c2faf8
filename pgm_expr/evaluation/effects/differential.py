r"""Differences between two groups of cells: preserved in draws, and with their uncertainty.

Kept: log fold changes of real cells, l_g = log((mean_1g + e) / (mean_2g + e)) with means of
x / library and e of half a count, beside those of drawn cells: signed, so that reversed effects
score -1. The ceiling is the same comparison of two halves of the real cells.

Posterior: with states of each group drawn from q(z | x), the story's expected expression at a
common library is averaged over the cells of the group, draw by draw,

    l_sg = log2(mean over group 1 of E[x_g | z_s] / mean over group 2),   s = 1 ... S

so its spread is the uncertainty of the states of these cells, given the weights. It knows nothing
of how cells and donors were sampled: see `fold_change` for evidence.

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
    """Agreement of drawn with real log fold changes between two groups.

    Parameters
    ----------
    r
        Pearson correlation of signed log fold changes.
    slope
        Of drawn on real ones; below 1 effects are shrunk.
    sign
        Share of the strongest genes with the same sign.
    top
        Share of the strongest genes that are among the strongest, with the same sign.
    ceiling
        The same figures of two halves of the real cells.
    """

    r: float
    slope: float
    sign: float
    top: float
    ceiling: Kept | None = None


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
    """Compare log fold changes of group 1 over group 0 in drawn and in real counts.

    Parameters
    ----------
    real, drawn
        Counts, (n, G) each.
    real_groups, drawn_groups
        0 or 1 for each cell, (n,).
    top
        Number of strongest genes; at most half of those compared.
    minimum
        Counts in the real cells of both groups from which a gene is compared.
    splits
        Random halves that the ceiling is averaged over.

    Raises
    ------
    ValueError
        Where a group has fewer than four cells, or fewer than three genes have the counts.

    Examples
    --------
    >>> noise = np.random.default_rng(0)
    >>> groups, rate = np.repeat([0, 1], 50), np.full((100, 20), 5.0)
    >>> rate[50:, :5] = 20.0
    >>> found = kept(noise.poisson(rate), groups, noise.poisson(rate), groups)
    >>> bool(found.r > 0.9)
    True
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
        one, other = (
            fold_change(real[half == h], np.asarray(real_groups)[half == h])[chosen]
            for h in (0, 1)
        )
        ceilings.append(_compared(one, other, top)[:4])
    r, slope, sign, strongest = np.mean(ceilings, axis=0)
    found = _compared(fold_change(real, real_groups)[chosen], ours, top)
    return found._replace(ceiling=Kept(r, slope, sign, strongest))


def fold_change(x: Counts, groups: np.ndarray) -> np.ndarray:
    """Natural log fold change of group 1 over group 0 in mean x / library, (G,).

    Parameters
    ----------
    x
        Counts, (n, G).
    groups
        0 or 1 for each cell, (n,).
    """
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


def _compared(real: np.ndarray, other: np.ndarray, top: int) -> Kept:
    top = min(top, len(real) // 2)
    strongest = np.argsort(-np.abs(real), kind="stable")[:top]
    among = np.isin(strongest, np.argsort(-np.abs(other), kind="stable")[:top])
    same = np.sign(real[strongest]) == np.sign(other[strongest])
    centred = real - real.mean()
    r = np.corrcoef(real, other)[0, 1] if other.std() and real.std() else 0.0
    slope = centred @ other / (centred @ centred)
    return Kept(r, slope, same.mean(), (same & among).mean())


class FoldChange(NamedTuple):
    """Posterior of the log2 fold change of each gene, group 1 over group 2.

    Parameters
    ----------
    draws
        (S, G).
    """

    draws: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Posterior mean, (G,)."""
        return self.draws.mean(0)

    @property
    def sd(self) -> np.ndarray:
        """Posterior standard deviation, (G,)."""
        return self.draws.std(0, ddof=1)

    def interval(self, level: float = 0.95) -> np.ndarray:
        """Central interval, (2, G)."""
        return np.quantile(self.draws, [(1 - level) / 2, (1 + level) / 2], axis=0)


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
    """Draw log2 fold changes between two groups of cells, at a common library.

    (S, G) is held, whatever the number of cells.

    Parameters
    ----------
    model, guide
        A fitted pair.
    one, other
        Minibatches of the cells of each group.
    draws
        Number of draws S.
    library
        Total counts that expression is expected at.

    Examples
    --------
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.models import VAE
    >>> pair = VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2)
    >>> cells = {"x": torch.ones(8, 5), "library": torch.full((8, 1), 5.0)}
    >>> found = posterior_fold_change(*pair, [cells], [cells], draws=3)
    >>> found.draws.shape
    (3, 5)
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
        total, cells = torch.zeros((), dtype=torch.double, device=batches[0]["x"].device), 0
        for batch in batches:
            at = {**batch, "library": torch.full_like(batch["library"], library)}
            total = total + predict(model, guide, batch, at).mean.double().sum(0)
            cells += len(batch["library"])
        rows.append(total / cells)
    return torch.stack(rows)
