r"""Ranking of variants: chosen on validation cells, compared on test cells, with ties.

The score of a variant is the importance-weighted bound of each cell, averaged over the seeds and
splits of its fits. Variants are ordered by that of validation cells. Differences are taken on test
cells to the first variant of the same measure: probabilities of counts given the library, of
counts given their total, and of detection are different quantities, whose difference has no
meaning.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from .differences import RATIO, Difference, Fits, difference, paired

K = TypeVar("K", bound=Hashable)  # whatever names a variant
SURE = 2.0  # standard errors from which the verdict on zeros takes a difference as one
BOUNDS = {
    "validation": "validation",
    "heldout_elbo": "elbo",
    "heldout_iwae": "iwae",
    "heldout_iwae_4k": "iwae_4k",
}


def rank(
    variants: Mapping[K, Fits], measures: Mapping[K, str], *, ratio: float = RATIO
) -> dict[K, dict]:
    """Rank variants by the bound of validation cells, and compare them on test cells.

    Parameters
    ----------
    variants
        Tensors of `score` by variant, split and seed.
    measures
        What the log p of each variant is a probability of. Only equal measures are compared.
    ratio
        Number of test cells per training cell.

    Returns
    -------
    dict
        By variant, best on validation cells first: `validation`, `heldout_elbo`, `heldout_iwae`,
        `heldout_iwae_4k`, nats per cell, and their standard deviation over the seeds of a split
        (`_sd`). `diff` is the difference on test cells at 4 K to the first variant of the same
        measure; `se` its standard error over cells, seeds and splits, and `se_cells`, `se_seeds`,
        `se_splits` its parts (see `difference`). `tie` is True where the 95% interval of `diff`
        holds 0, or where `diff` is below its change between K and 4 K. For one split `se`,
        `se_splits` and `tie` are None: whether another split agrees is unknown.

    Examples
    --------
    >>> def fit(nats):
    ...     return {key: torch.full((9,), nats) for key in BOUNDS.values()}
    >>> fits = {"a": [[fit(-12.0)], [fit(-12.5)]], "b": [[fit(-10.0)], [fit(-10.5)]]}
    >>> ranked = rank(fits, {"a": "counts", "b": "counts"})
    >>> {name: (row["diff"], row["tie"]) for name, row in ranked.items()}
    {'b': (0.0, False), 'a': (-2.0, False)}
    """
    rows = {name: _means(fits) for name, fits in variants.items()}
    order = sorted(rows, key=lambda name: -rows[name]["validation"])
    for name in order:
        first = next(other for other in order if measures[other] == measures[name])
        rows[name] |= _against(variants[name], variants[first], ratio)
        if name == first:
            rows[name]["tie"] = False
    return {name: rows[name] for name in order}


def _means(fits: Fits) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, key in BOUNDS.items():
        means = torch.stack([torch.stack([s[key].mean() for s in split]) for split in fits])
        row |= {name: means.mean().item(), f"{name}_sd": spread(means)}
    return row


def spread(seeds: Tensor) -> float:
    """Standard deviation over seeds, (S,) or (J, S) within J splits; 0 for a single seed."""
    return seeds.var(-1).mean().sqrt().item() if seeds.shape[-1] > 1 else 0.0


def _against(fits: Fits, first: Fits, ratio: float) -> dict[str, Any]:
    found = difference(fits, first, ratio=ratio)
    moved = abs(found.mean - difference(fits, first, key="iwae").mean)
    tie = not found.certain or abs(found.mean) < moved
    return {
        "diff": found.mean,
        "se": found.se,
        "se_cells": found.se_cells,
        "se_seeds": found.se_seeds,
        "se_splits": found.se_splits,
        "tie": None if found.se is None else tie,
    }


def zero_inflation(nb: Fits, zinb: Fits, *, ratio: float = RATIO) -> str:
    """Whether zero inflation improves the held-out bound, in two sentences.

    ZINB is chosen where its bound is higher by two standard errors: over cells, seeds and splits,
    or over cells and seeds of one split. NB is its limit, so equal scores favour NB.

    Parameters
    ----------
    nb, zinb
        Tensors of `score` by split, in pairs of fits that differ in nothing else.
    ratio
        Number of test cells per training cell.
    """
    found = difference(zinb, nb, ratio=ratio)
    error, over = _error(found)
    use = "ZINB" if found.mean > SURE * error else "NB"
    zeros = [torch.stack([fit["zeros"] for fit in split]) for split in nb]
    drawn = [torch.stack([fit["zeros_drawn"] for fit in split]) for split in nb]
    missing = paired([real - own for real, own in zip(zeros, drawn, strict=True)], ratio)
    short, short_error = missing.mean, _error(missing)[0]
    share = short / torch.stack([each.mean() for each in zeros]).mean().item()
    under = "underfits" if short > SURE * short_error else "does not underfit"
    return (
        f"Use {use}: ZINB is {found.mean:+.2f} ± {error:.2f} nats per held-out cell against NB "
        f"({abs(found.mean) / error:.1f} standard errors, over {over}; {sum(map(len, nb))} pairs "
        f"of fits). NB {under} zeros: a real cell has {short:+.1f} ± {short_error:.1f} genes at "
        f"zero against a cell drawn from NB ({share:+.2%})."
    )


def _error(found: Difference) -> tuple[float, str]:
    """The most complete standard error that there is, and what it is over."""
    if found.se is None:
        return found.se_within, "cells and seeds of one split"
    return found.se, f"cells, seeds and {found.splits} splits"
