r"""Calibration of predicted counts: randomised PIT, log score and CRPS by draws.

    pit_ng   = (#{x_s < x_ng} + v (1 + #{x_s = x_ng})) / (S + 1),   v ~ U(0, 1)
    log p_ng = log 1/S sum_s p(x_ng | z_s)
    crps_ng  = mean_s |x_s - x_ng| - 1/2 mean_s |x_s - x_(s + 1)|

over S draws z_s ~ q(z | other counts of the cell), x_s ~ p(x | z_s). Where real and drawn counts
have the same distribution, PIT is uniform exactly, whatever S and however discrete the counts; the
coverage of central intervals of counts is not nominal, since most counts are 0. Uniform PIT alone
shows little (a negative binomial without any state passes), so scores, which reward sharpness too,
stand beside it: a higher log score and a lower CRPS are better, both proper, both summed over
genes.

Czado, Gneiting and Held, Biometrics 2009, https://doi.org/10.1111/j.1541-0420.2009.01191.x
Gneiting and Raftery, JASA 2007, https://doi.org/10.1198/016214506000001437
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Independent

from ...inference import seeded
from ...predict import SEED, Batch

CENTRAL = 0.025, 0.975
EDGES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, math.inf)  # of the mean counts of bins
GENES = 20  # of a bin, at least
TOLERANCE = 0.02, 0.01, 0.01  # of the share in the central 95%, below and above
Predict = Callable[[Batch, Batch], TorchDistribution]  # (given, target) -> counts, event (G,)


class Predictions(NamedTuple):
    """How real counts of N cells compare with predicted ones.

    Parameters
    ----------
    pit
        Randomised PIT, (N, G).
    log_score
        Log predictive probability, summed over genes, nats, (N,).
    crps
        Continuous ranked probability score, summed over genes, counts, (N,).
    """

    pit: Tensor
    log_score: Tensor
    crps: Tensor


@torch.no_grad()
def predictions(
    predict: Predict, pairs: Iterable[tuple[Batch, Batch]], *, draws: int = 99
) -> Predictions:
    """Judge predictions of the second minibatch of each pair from the first.

    At most three times cells x genes are held for a minibatch, whatever the number of draws.

    Parameters
    ----------
    predict
        Function of both minibatches that returns a distribution of the counts of the second. It
        is called for each draw, so it may draw a state each time.
    pairs
        Pairs of minibatches of the same cells, such as `thinning.halves`.
    draws
        Number of draws S, at least 2.

    Raises
    ------
    ValueError
        For fewer than two draws.

    Examples
    --------
    >>> import pyro.distributions as dist
    >>> poisson = dist.Poisson(torch.full((40, 5), 3.0)).to_event(1)
    >>> _ = torch.manual_seed(0)
    >>> cells = {"x": poisson.sample()}
    >>> found = predictions(lambda given, target: poisson, [(cells, cells)])
    >>> shares(found.pit.numpy())["inside"] > 0.9
    True
    """
    if draws < 2:
        raise ValueError(f"draws are compared with each other: got {draws}. Take at least 2.")
    with seeded(SEED):
        parts = [_judged(predict, *pair, draws) for pair in pairs]
    return Predictions(*map(torch.cat, zip(*parts, strict=True)))


def _judged(predict: Predict, given: Batch, target: Batch, draws: int) -> Predictions:
    x = target["x"]
    rank, score = torch.zeros_like(x), torch.full_like(x, -math.inf)
    v, crps, before = torch.rand_like(x), torch.zeros_like(x[:, 0]), None
    for _ in range(draws):
        counts = predict(given, target)
        drawn = counts.sample()
        rank += (drawn < x).to(x) + v * (drawn == x).to(x)
        score = torch.logaddexp(score, _mass(counts, x))
        crps += (drawn - x).abs().sum(-1) / draws
        if before is not None:
            crps -= (drawn - before).abs().sum(-1) / (2 * (draws - 1))
        before = drawn
    score = (score - math.log(draws)).double().sum(-1)
    return Predictions((rank + v) / (draws + 1), score, crps)


def _mass(counts: TorchDistribution, x: Tensor) -> Tensor:
    """log p of each gene's count, (N, G); that of all genes, divided among them, where they are
    drawn together, as in a multinomial."""
    if isinstance(counts, Independent) and counts.reinterpreted_batch_ndims == 1:
        return counts.base_dist.log_prob(x)
    return counts.log_prob(x).unsqueeze(-1).expand_as(x) / x.shape[-1]


def shares(pit: np.ndarray) -> dict[str, float]:
    """Share of PITs in the central 95%, below and above: 0.95, 0.025 and 0.025 if calibrated.

    Examples
    --------
    >>> shares(np.array([0.01, 0.2, 0.5, 0.99]))
    {'inside': 0.5, 'low': 0.25, 'high': 0.25}
    """
    low, high = (pit < CENTRAL[0]).mean(), (pit > CENTRAL[1]).mean()
    return {"inside": float(1 - low - high), "low": float(low), "high": float(high)}


def by_bin(
    pit: np.ndarray,
    x: np.ndarray,
    types: np.ndarray | None = None,
    *,
    edges: Iterable[float] = EDGES,
    genes: int = GENES,
    cells: int = 50,
) -> pd.DataFrame:
    """`shares` in each expression bin within each type.

    A bin holds the genes whose mean count over the cells of the type lies between two edges.

    Parameters
    ----------
    pit, x
        PITs and counts, (N, G) each.
    types
        Type of each cell, (N,); one type by default.
    edges
        Of the mean counts of the bins.
    genes
        A bin of fewer genes joins the one below it.
    cells
        Types of fewer cells are left out.

    Returns
    -------
    DataFrame
        Columns: type, mean_from, mean_to, genes, inside, low, high.
    """
    types = np.zeros(len(x), int) if types is None else np.asarray(types)
    kinds = [kind for kind in np.unique(types) if (types == kind).sum() >= cells]
    found = bins({kind: x[types == kind].mean(0) for kind in kinds}, edges=edges, genes=genes)
    return pd.DataFrame([b.row() | shares(pit[np.ix_(types == b.type, b.chosen)]) for b in found])


class Bin(NamedTuple):
    """Genes whose mean count in the cells of a type lies between two edges.

    Parameters
    ----------
    type
        Label of the type.
    low, high
        The edges.
    chosen
        Whether a gene is in the bin, (G,).
    """

    type: Any
    low: float
    high: float
    chosen: np.ndarray

    def row(self) -> dict[str, Any]:
        """What a table says of the bin."""
        genes = int(self.chosen.sum())
        return {"type": self.type, "mean_from": self.low, "mean_to": self.high, "genes": genes}


def bins(
    means: Mapping[Any, np.ndarray], *, edges: Iterable[float] = EDGES, genes: int = GENES
) -> list[Bin]:
    """Bins of genes of similar expression within each type.

    Parameters
    ----------
    means
        Mean counts (G,) by type. Of other cells than those whose PITs are binned, so that no gene
        is in a bin because its counts are high by chance.
    edges, genes
        As for `by_bin`.

    Examples
    --------
    >>> [each.row()["genes"] for each in bins({"b cell": np.array([0.5, 2.0, 2.5])}, genes=1)]
    [1, 2]
    """
    found = []
    for kind, mean in means.items():
        for low, high in _wide_enough(mean, list(edges), genes):
            chosen = (mean > low) & (mean <= high) if low else mean <= high
            found.append(Bin(kind, low, high, chosen))
    return found


def shares_by_cell(pit: np.ndarray, types: np.ndarray, among: Sequence[Bin]) -> np.ndarray:
    """Shares of each cell in each bin, inside, below and above, (N, 3 B); NaN for other types.

    Parameters
    ----------
    pit
        PITs, (N, G).
    types
        Type of each cell, (N,).
    among
        The B bins.
    """
    found = np.full((len(pit), 3 * len(among)), np.nan)
    low, high = pit < CENTRAL[0], pit > CENTRAL[1]
    for i, each in enumerate(among):
        here = types == each.type
        below, above = (side[np.ix_(here, each.chosen)].mean(1) for side in (low, high))
        found[here, 3 * i : 3 * i + 3] = np.stack([1 - below - above, below, above], 1)
    return found


def _wide_enough(mean: np.ndarray, edges: list[float], genes: int) -> list[tuple[float, float]]:
    """Pairs of edges with at least so many genes between them; all genes where none have."""
    bins: list[tuple[float, float]] = []
    high = edges[-1]
    for low in reversed(edges[:-1]):
        if ((mean > low) & (mean <= high)).sum() >= genes:
            bins, high = [(low, high), *bins], low
    if not bins:
        return [(edges[0], edges[-1])]
    return [(edges[0], bins[0][1]), *bins[1:]]


def passes(rows: pd.DataFrame) -> pd.Series:
    """Whether each row of `by_bin` is calibrated: 0.93 to 0.97 inside, 0.015 to 0.035 a tail."""
    tails = rows[["low", "high"]].apply(lambda tail: tail.between(0.015, 0.035)).all(axis=1)
    return rows["inside"].between(0.93, 0.97) & tails
