"""How the expression of cells would change under another condition."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data import load_dataset
from ..evaluation.shrinkage import shrink
from ..evaluation.support import FEW, NONE
from .conditions import check_expressed
from .prediction import Prediction
from .support import LEVEL, Overlap, find_overlap, training_cells

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from ..data import Cells
    from ..evaluation.support import Support
    from ..runs.fitted import Fitted

ALL = "all cells"


def counterfactual(
    run: Fitted,
    data: AnnData | str | Path,
    *,
    condition: Mapping[str, object],
    groupby: str | None = None,
    strata: str | Sequence[str] | None = None,
    shrinkage: bool = False,
    draws: int = 1000,
    seed: int = 0,
) -> Prediction:
    """Log2 fold changes of cells set to a condition, over the same cells as they are.

    The estimand is the ratio of mean expression of the cells: all set to the condition, over as
    they are; cells that have the condition already do not change. It is estimated from observed
    cells of both levels within strata of the states (direct standardisation), so that its
    interval covers the sampling of those cells. It is a causal effect only where, within strata,
    the condition does not depend on expression. Where strata are clusters of states, the interval
    includes the spread of the effect between clusters. Cells in strata without cells of the
    condition are left out, with a warning.

    Parameters
    ----------
    data
        Cells, as for `embed`.
    condition
        Columns of obs, each set to one level for all cells: `{"stim": "yes"}`.
    groupby
        A column of obs, for an answer per group; None for all cells together.
    strata
        Columns of obs within which cells are compared; data must then hold cells of the
        condition. By default the labels of the fit, and clusters of latent states without them.
    shrinkage
        Whether to shrink towards the common shift by empirical Bayes. Errors are then smaller
        where few genes change, and intervals cover on average over genes, not for each gene.
    draws
        Number of draws S.
    seed
        Seed of the draws.

    Returns
    -------
    `Prediction` with draws (S, groups, G), `support`, and as rivals `unchanged` (0), `mean_shift`
    (cells of the condition over the others, unadjusted) and `story` (the decoder with states held;
    it is estimated from the same cells and has no valid interval).

    Raises
    ------
    ValueError
        For unknown columns and levels, a column without effect in the story, and a condition
        without support: no observed cells of it near these cells, or states that cannot be told
        apart from the condition.

    References
    ----------
    Robins, Mathematical Modelling 1986, https://doi.org/10.1016/0270-0255(86)90088-6

    Examples
    --------
    >>> adata.obs["plate"] = ["p1", "p1", "p1", "p2"] * 30
    >>> keys = dict(batch_key="plate", labels_key="cell_type", latent=2, hidden=8)
    >>> fitted = pgm_expr.fit(adata, "cvae", epochs=5, progress=False, **keys)
    >>> found = fitted.counterfactual(adata, condition={"plate": "p1"}, groupby="cell_type")
    >>> found.draws.shape, found.support.verdict
    ((1000, 2, 12), 'good')
    """
    data = load_dataset(data) if isinstance(data, (str, Path)) else data
    cells = run.query(data)
    if not condition:
        raise ValueError("condition is empty: set a column of obs to a level.")
    check_expressed(run, cells, condition)
    groups = groups_of(data.obs, groupby)
    columns = [strata] if isinstance(strata, str) else strata
    found = find_overlap(run, cells, condition, data.obs, columns)
    support = found.support(condition, training_cells(run, condition))
    refuse_or_warn(support)
    sampled = [_draw(found, members, draws, shrinkage, seed) for members in groups.values()]
    return Prediction(
        draws=np.stack(sampled, 1),
        rows=[*groups],
        genes=run.notes["genes"],
        quantity="log2 fold change",
        story=run.notes["story"],
        n=np.array([int(found.near[members].sum()) for members in groups.values()]),
        condition=condition,
        rivals=_rivals(run, cells, condition, found, [*groups.values()]),
        support=support,
        split=run.notes["cells"],
        seeds={"draws": seed},
    )


def refuse_or_warn(support: Support) -> None:
    """ValueError without support, a warning where it is partial."""
    if support.verdict == "none":
        raise ValueError(_without(support))
    warn_of_support(support)


def warn_of_support(support: Support) -> None:
    """A warning where support is partial or missing; one line with its figures."""
    if support.verdict == "none":
        warnings.warn(_without(support), stacklevel=4)
    if support.verdict == "partial":
        warnings.warn(f"partial support{_learnt(support)}: {support.sentence()}.", stacklevel=4)


def _without(support: Support) -> str:
    if support.share < NONE:
        why, do = "no cells of it are near", "Choose cells that overlap with it"
    else:
        why = "states cannot be separated from it"
        do = "Fit with labels_key, or pass columns of obs as strata"
    return f"condition without support{_learnt(support)}, {why}: {support.sentence()}. {do}."


def _learnt(support: Support) -> str:
    number = support.training_cells
    return f" (learnt from {number} training cells)" if number < FEW else ""


def groups_of(obs: pd.DataFrame, groupby: str | None) -> dict[str, np.ndarray]:
    """Positions of the cells of each group."""
    if groupby is None:
        return {ALL: np.arange(len(obs))}
    if groupby not in obs:
        raise ValueError(
            f"groupby: obs has no column {groupby!r}: it holds {', '.join(map(str, obs))}. "
            "Name one of these."
        )
    levels = obs[groupby].astype(str).to_numpy()
    return {level: np.flatnonzero(levels == level) for level in sorted(set(levels))}


def _draw(
    found: Overlap, members: np.ndarray, draws: int, shrinkage: bool, seed: int
) -> np.ndarray:
    """Draws (S, G) for one group; NaN where none of its cells has support."""
    near = members[found.near[members]]
    if not len(near):
        return np.full((draws, found.counts.shape[1]), np.nan)
    numbers = found.numbers(near)
    estimate, error = found.observed.contrast(numbers, LEVEL)
    change = np.delete(numbers, LEVEL, axis=1).sum(1) / len(near)  # share of cells that change
    between = found.heterogeneity[1] * (change**2).sum() / np.log(2) ** 2
    error = np.sqrt(error**2 + between)
    if shrinkage:
        return shrink(estimate, error, np.zeros_like(estimate), draws=draws, seed=seed)
    noise = np.random.default_rng(seed).normal(size=(draws, len(error)))
    return estimate + error * noise


def _rivals(
    run: Fitted,
    cells: Cells,
    condition: Mapping[str, object],
    found: Overlap,
    groups: Sequence[np.ndarray],
) -> dict[str, np.ndarray]:
    """Answers of simple methods, (R, G) each."""
    index = np.arange(len(cells))
    at = run.encoding.set_to(cells.columns, condition, len(cells))
    sides = [
        run.expected(cells, index, covariates, library=1.0, draws=5)
        for covariates in (at, cells.columns)
    ]
    story = [np.log2(sides[0][g].mean(0) / sides[1][g].mean(0)) for g in groups]
    of_condition = found.known[:, 1] == LEVEL
    sums = [found.counts[mask].sum(0) + 0.5 for mask in (of_condition, ~of_condition)]
    shift = np.log2(sums[0] / sums[0].sum()) - np.log2(sums[1] / sums[1].sum())
    changed = [(found.targets[g, 1] != LEVEL).mean() for g in groups]
    return {
        "unchanged": np.zeros((len(groups), len(shift))),
        "mean_shift": np.stack([np.log2(1 - c + c * 2**shift) for c in changed]),
        "story": np.stack(story),
    }
