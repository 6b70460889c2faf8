"""Support of a condition: observed cells of it near the cells that are set to it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from ..data import Cells, ContinuousCovariate, Label
from ..evaluation.aligned_clusters import align_clusters
from ..evaluation.standardise import Observed, observe
from ..evaluation.support import (
    FEW,
    Support,
    cramers_v,
    heterogeneity,
    overlap,
    separation,
    supported,
)
from ..runs.simulated_covariates import kept_cells

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from ..runs.fitted import Fitted

CLUSTERS = 8  # of states, where there are no labels
PER_CLUSTER = 50  # cells for each of them, at least
COMPONENTS = 30  # of log expression, in which clusters are aligned
STATES = "cluster of states"
LEVEL = 0  # position of the requested level


@dataclass(frozen=True)
class Overlap:
    """Target cells and observed cells, by stratum and level of the columns of a condition.

    `targets` are codes (N, 2) of stratum and level of the target cells, `known` (M, 2) those of
    the observed cells, whose counts are `counts` (M, G). Level 0 is the requested one.
    """

    name: str
    by_states: bool
    counts: sparse.csr_array
    targets: np.ndarray
    known: np.ndarray
    shape: tuple[int, int]

    @cached_property
    def observed(self) -> Observed:
        """Mean shares by stratum and level."""
        return observe(self.counts, self.known[:, 0], self.known[:, 1], self.shape)

    @property
    def near(self) -> np.ndarray:
        """Target cells of the condition, or with observed cells of it in their stratum, (N,)."""
        stratum, level = self.targets.T
        like = self.observed.cells[stratum, level] > 0
        return like & ((level == LEVEL) | supported(self.observed, LEVEL)[stratum])

    def numbers(self, cells: np.ndarray) -> np.ndarray:
        """Numbers of target cells by stratum and level, (K, L)."""
        found = np.zeros(self.shape, int)
        np.add.at(found, tuple(self.targets[cells].T), 1)
        return found

    @cached_property
    def heterogeneity(self) -> tuple[float, float]:
        """See `evaluation.support.heterogeneity`; NaN and 0 where strata are given."""
        return heterogeneity(self.observed, LEVEL) if self.by_states else (np.nan, 0.0)

    def support(self, condition: Mapping[str, object], training_cells: int) -> Support:
        """The figures of `evaluation.support`."""
        share, effective = overlap(
            self.observed, self.numbers(np.arange(len(self.targets))), LEVEL
        )
        of_condition = self.known[:, 1] == LEVEL
        return Support(
            condition=text_of(condition),
            strata=self.name,
            training_cells=training_cells,
            targets=int((self.targets[:, 1] != LEVEL).sum()),
            share=share,
            effective=effective,
            by_states=self.by_states,
            heterogeneity=self.heterogeneity[0],
            cramers_v=np.nan if self.by_states else cramers_v(*self.known.T),
            auc=separation(self.counts, of_condition),
        )


def text_of(condition: Mapping[str, object]) -> str:
    """`stim=yes, dose=80`."""
    return ", ".join(f"{name}={level}" for name, level in condition.items())


def find_overlap(
    run: Fitted,
    cells: Cells,
    condition: Mapping[str, object],
    obs: pd.DataFrame,
    strata: Sequence[str] | None = None,
) -> Overlap:
    """Compare target cells with the cells of the fit and, where these are others, each other.

    `strata` are columns of obs; by default labels of the fit, else clusters of latent states.
    """
    known = _known(run)
    levels = _levels(run, condition, [cells, known or cells])
    if strata:
        codes, name = _columns(obs, strata), " and ".join(strata)
        both, known, levels = [codes, codes], None, [levels[0], levels[0]]
    elif _labelled(run, cells) and _labelled(run, known or cells):
        both = [np.asarray(each.columns["label"]) for each in (cells, known or cells)]
        name = next(f.key for f in run.encoding.fields if isinstance(f, Label))
    else:
        both, name = _clusters(run, levels, cells, known or cells), STATES
    targets, observed = (np.stack(pair, 1) for pair in zip(both, levels, strict=True))
    counts = sparse.csr_array((known or cells).counts)
    if known and (new := ~np.isin(cells.names, known.names)).any():
        observed = np.concatenate([observed, targets[new]])
        counts = sparse.csr_array(sparse.vstack([counts, cells.counts[np.flatnonzero(new)]]))
    rows, columns = np.concatenate([targets, observed]).max(0) + 1
    by_states = name == STATES
    return Overlap(name, by_states, counts, targets, observed, (int(rows), int(columns)))


def _known(run: Fitted) -> Cells | None:
    """Cells of the fit, None where they cannot be read again."""
    try:
        return run.training_table().cells
    except (ValueError, OSError):
        return None


def _labelled(run: Fitted, cells: Cells) -> bool:
    label = cells.columns.get("label")
    return bool(run.encoding.labels) and label is not None and bool((label >= 0).all())


def _columns(obs: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Codes of the joint levels of some columns, (N,)."""
    for name in names:
        if name not in obs:
            raise ValueError(
                f"strata: obs has no column {name!r}: it holds {', '.join(map(str, obs))}. "
                "Name one of these."
            )
    return obs.groupby(list(map(str, names)), observed=True, dropna=False).ngroup().to_numpy()


def _clusters(
    run: Fitted, levels: Sequence[np.ndarray], cells: Cells, known: Cells
) -> list[np.ndarray]:
    """Clusters of target and of known cells, (N,) and (M,), found in the known ones.

    They start from posterior means, and are aligned across levels of the condition.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD

    run.require_states("strata of states")
    states = run.use(run.unlabelled(known)).loc.cpu().double().numpy()
    number = max(1, min(CLUSTERS, len(states) // PER_CLUSTER))
    start = KMeans(number, n_init=4, random_state=0).fit_predict(states)
    logs = [_log_shares(each) for each in (cells, known)]
    size = min(COMPONENTS, *(side - 1 for side in logs[1].shape))
    components = TruncatedSVD(size, random_state=0).fit(logs[1])
    y = [components.transform(each) for each in logs]
    highest = int(max(each.max() for each in levels)) + 1
    found = align_clusters(y[1], start, levels[1], highest)
    return [found.predict(*pair) for pair in zip(y, levels, strict=True)]


def _log_shares(cells: Cells) -> sparse.csr_array:
    """log(1 + counts at 1,000 counts a cell), (N, G)."""
    library = np.maximum(np.asarray(cells.counts.sum(1), float).ravel(), 1.0)
    return sparse.csr_array(sparse.diags_array(1000 / library) @ cells.counts).log1p()


def _levels(
    run: Fitted, condition: Mapping[str, object], tables: Sequence[Cells]
) -> list[np.ndarray]:
    """Codes of the joint levels of the columns of a condition, (N,) each, 0 the requested."""
    rows = [_distance(run, table.columns, len(table), condition) for table in tables]
    distinct, codes = np.unique(np.concatenate(rows), axis=0, return_inverse=True)
    codes = codes.reshape(-1) + 1
    requested = np.flatnonzero((distinct == 0).all(1)) + 1
    codes[np.isin(codes, requested)] = LEVEL
    return np.split(codes, [len(rows[0])])


def _distance(
    run: Fitted, columns: Mapping[str, np.ndarray], n: int, condition: Mapping[str, object]
) -> np.ndarray:
    """Encoded columns minus those of the requested level, (n, C); numbers to one deviation."""
    found = [np.zeros((n, 1))]
    for column, values in run.encoding.parts(columns):
        if column.key in condition and column.settable:
            gap = np.asarray(values, float) - column.set_to(condition[column.key])
            gap = np.round(gap) if isinstance(column, ContinuousCovariate) else gap
            found.append(gap.reshape(n, -1))
    return np.nan_to_num(np.concatenate(found, 1), nan=np.inf)


def training_cells(run: Fitted, condition: Mapping[str, object]) -> int:
    """Training cells of a condition; of the 1,000 kept with a run where data are not at hand."""
    known = _known(run)
    if known is None:
        library, columns = kept_cells(run.notes)
        return int((~_distance(run, columns, len(library), condition).any(1)).sum())
    far = _distance(run, known.columns, len(known), condition)
    return int((~far[run.training_table().split.train].any(1)).sum())


def with_support(
    run: Fitted, drawn: AnnData, condition: Mapping[str, object], seed: int
) -> AnnData:
    """Drawn cells with their provenance in uns, and a warning where training cells are few."""
    notes = {"story": run.notes["story"], "n": drawn.n_obs, "seed": seed}
    if condition:
        number = training_cells(run, condition)
        notes |= {k: str(level) for k, level in condition.items()}
        notes["support"] = {"condition": text_of(condition), "training_cells": number}
        if number < FEW:
            warnings.warn(_learnt_from(condition, number), stacklevel=3)
    drawn.uns[run.prefix] = notes
    return drawn


def _learnt_from(condition: Mapping[str, object], number: int) -> str:
    cells = "training cell" if number == 1 else "training cells"
    return (
        f"{text_of(condition)}: learnt from {number} {cells}, so that drawn cells may resemble "
        "cells of other conditions. Compare them with cells of it before use."
    )
