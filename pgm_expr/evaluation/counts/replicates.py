r"""Replicates of cells, and what a statistic of the cells is where the story is true.

    z_n ~ q(z | x_n),   l_n ~ p(l | total of x_n),   x*_nr ~ p(x | z_n, l_n, ...),   r = 1 ... R

If the story is true and q its posterior, a cell and its replicates are exchangeable: whichever of
the R + 1 versions is called the real one, a statistic of all cells has the same distribution. It
is computed for the real cells, and for sets that take a version of each cell at random. The share
of sets whose statistic is as far out is an exact p-value, whatever the statistic, the number of
cells and the number of bins or genes that it is the worst of. Errors of the guide that a version
and its own replicate share cancel.

A story draws counts at an expected library l, and their total varies around it. Replicates keep
the total of their own counts as library, as real cells do. So that these are spread like those of
the real cells, l is drawn from its posterior given the total, both log-normal:

    log l ~ Normal(m + k (log total - m), k v),   k = 1 - v / s^2

with m and s^2 the mean and variance of log totals, and v the variance of log (total / l) in draws.

Besag and Clifford, Biometrika 1989, https://doi.org/10.1093/biomet/76.4.633 (exact p-values)
Westfall and Young, Resampling-Based Multiple Testing, 1993 (the worst of several statistics)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ...inference import seeded
from ...predict import SEED, Batch, draw_prior, predict

R = 4  # replicates of each cell
S = TypeVar("S")  # a summary of a set of cells


@torch.no_grad()
def replicates(
    model: nn.Module,
    guide: nn.Module,
    batches: Iterable[Batch],
    number: int = R,
    *,
    totals: bool = True,
) -> list[list[Batch]]:
    """Draw replicates of cells at one draw of their states.

    All replicates are held: number x N x G counts.

    Parameters
    ----------
    model, guide
        A fitted pair.
    batches
        Minibatches of the N cells.
    number
        Replicates R of each cell.
    totals
        Whether the library of a cell is the total of its counts, which replicates then follow.

    Returns
    -------
    list
        Minibatches of all cells, for each replicate.

    Examples
    --------
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.models import VAE
    >>> pair = VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2)
    >>> cells = {"x": torch.ones(8, 5), "library": torch.full((8, 1), 5.0)}
    >>> drawn = replicates(*pair, [cells], 3)
    >>> len(drawn), drawn[0][0]["x"].shape, drawn[0][0]["library"].shape
    (3, torch.Size([8, 5]), torch.Size([8, 1]))
    """
    kept = list(batches)
    with seeded(SEED + 2):  # not the noise of what they are compared with
        expected = _expected(lambda b: predict(model, guide, b, b).sample(), kept, totals)
        pairs = zip(kept, expected, strict=True)
        drawn = [predict(model, guide, batch, at).sample((number,)) for batch, at in pairs]
    return [
        [_observed(batch, x[r], totals) for batch, x in zip(kept, drawn, strict=True)]
        for r in range(number)
    ]


@torch.no_grad()
def prior_replicates(
    model: nn.Module, batches: Iterable[Batch], *, totals: bool = True
) -> list[Batch]:
    """Draw a new cell from the prior for each cell, of its covariates and a like library.

    Parameters
    ----------
    model
        A fitted model.
    batches
        Minibatches of the N cells.
    totals
        As for `replicates`.
    """
    kept = list(batches)
    with seeded(SEED + 2):
        expected = _expected(lambda b: draw_prior(model, [b]), kept, totals)
        drawn = [draw_prior(model, [at]) for at in expected]
    return [_observed(batch, x, totals) for batch, x in zip(kept, drawn, strict=True)]


def _observed(batch: Batch, x: Tensor, totals: bool) -> Batch:
    """A minibatch with drawn counts, and their total as library; a cell has one count at least."""
    library = x.sum(-1, keepdim=True).clamp_min(1) if totals else batch["library"]
    return {**batch, "x": x, "library": library}


def _expected(draw: Callable[[Batch], Tensor], kept: list[Batch], totals: bool) -> list[Batch]:
    """Minibatches at libraries drawn given the totals of the cells."""
    if not totals:
        return kept
    log = torch.cat([batch["library"] for batch in kept]).log()
    sums = torch.cat([draw(batch).sum(-1, keepdim=True) for batch in kept]).clamp_min(1)
    noise = (sums.log() - log).var(unbiased=False)
    spread = log.var(unbiased=False).clamp_min(1e-12)
    share = (1 - noise / spread).clamp(0, 1)
    middle = log.mean() + share * (log - log.mean())
    library = (middle + (share * noise).sqrt() * torch.randn_like(log)).exp()
    parts = library.split([len(batch["library"]) for batch in kept])
    return [{**batch, "library": part} for batch, part in zip(kept, parts, strict=True)]


class Exchanged(NamedTuple):
    """F statistics of the real cells beside those of sets of exchanged versions, (F,) each.

    Parameters
    ----------
    value
        Of the real cells.
    expected
        Mean over sets.
    p
        Share of sets in which any of the F statistics is as far out as this one: the p-value of
        each, corrected for their number.
    """

    value: np.ndarray
    expected: np.ndarray
    p: np.ndarray


def exchanged(
    summary: Callable[[np.ndarray], S],
    compare: Callable[[S, Sequence[S]], np.ndarray],
    *,
    versions: int,
    cells: int,
    sets: int = 200,
    two_sided: bool = False,
) -> Exchanged:
    """Test statistics of real cells against sets that take a version of each cell at random.

    Parameters
    ----------
    summary
        Function of the version of each cell, (N,), that summarises these N cells; version 0 is
        the real cell.
    compare
        Function of the summary of a set, and those of the rest of the versions in `versions - 1`
        sets, that returns F statistics; a high one is bad.
    versions
        Number R + 1 of versions of each cell.
    cells
        Number N.
    sets
        Number of sets, the real one among them; the least p-value is 1 / sets.
    two_sided
        Whether a low statistic is bad too.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(5, 100))
    >>> x[0] += 1.0  # the real cells are higher
    >>> cells = np.arange(100)
    >>> found = exchanged(
    ...     lambda version: x[version, cells].mean(),
    ...     lambda one, rest: np.array([one - np.mean(rest)]),
    ...     versions=5,
    ...     cells=100,
    ... )
    >>> found.p.round(3)
    array([0.005])
    """
    rng, rows = np.random.default_rng(SEED), []
    for orbit in range(-(-sets // versions)):  # sets that take turns share their summaries
        first = rng.integers(versions, size=cells) if orbit else np.zeros(cells, int)
        parts = [summary((first + turn) % versions) for turn in range(versions)]
        rows += [compare(part, parts[:i] + parts[i + 1 :]) for i, part in enumerate(parts)]
    found = np.stack(rows)
    spread = found.std(0)
    z = (found - found.mean(0)) / np.where(spread > 0, spread, np.inf)
    z = np.abs(z) if two_sided else z
    worst = z.max(1)
    p = (worst[:, None] >= z[0] - 1e-9).mean(0)
    return Exchanged(found[0], found.mean(0), p)


def exchanged_means(values: np.ndarray, *, sets: int = 1000) -> Exchanged:
    """Test means over cells against those of sets that take a version of each cell at random.

    Parameters
    ----------
    values
        F figures of each version of each cell, (R + 1, N, F), the real cells first; NaN where a
        figure is not of a cell.
    sets
        Number of sets.

    Returns
    -------
    Exchanged
        Means of the real cells, of all versions, and two-sided p-values.
    """
    versions, cells, _ = values.shape
    known = np.isfinite(values[0])
    weighted = np.where(known, values, 0) / known.sum(0)
    total, at = weighted.sum((0, 1)), np.arange(cells)
    found = exchanged(
        lambda version: weighted[version, at].sum(0),
        lambda one, rest: one,
        versions=versions,
        cells=cells,
        sets=sets,
        two_sided=True,
    )
    others = (total - found.value) / (versions - 1)
    return Exchanged(found.value, others, found.p)
