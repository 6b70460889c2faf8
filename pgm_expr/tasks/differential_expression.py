"""How expression differs between groups of cells, with evidence about cells or about donors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from ..data import Donor
from ..evaluation.counts.statistics import indicator
from ..evaluation.effects.effect import Effect
from ..evaluation.effects.fold_change import fold_changes

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from ..data import Cells
    from ..runs.fitted import Fitted

REST = "rest"
LEAST = 5  # cells a group, where cells are the replicates
PAIRS = 3  # replicates with cells in both groups from which a comparison is paired


def differential_expression(
    run: Fitted,
    data: AnnData,
    groupby: str,
    group1: str | Sequence[str] | None = None,
    group2: str | None = None,
    *,
    replicate_key: str | None = "auto",
    threshold: float = 0.0,
    rate: float = 0.05,
) -> pd.DataFrame:
    """Posterior log2 fold changes between groups of cells, with calls at a stated error rate.

    The fold change is that of the populations which the replicates were drawn from: donors where
    `replicate_key` names them, else cells like these of the same donors. Counts of both groups
    enter a negative binomial with dispersions shrunk to their trend; an adaptive prior, fitted to
    all genes, shrinks the changes. Between cells, the story adds what it knows of each: programs
    of genes that differ by chance between two samples of cells are not taken for effects.

    Parameters
    ----------
    data
        Cells, as for `embed`, as an AnnData.
    groupby
        A column of obs.
    group1
        Levels of it, one or several; all levels by default.
    group2
        The level to compare with; all other cells by default.
    replicate_key
        A column of obs whose levels are the replicates, such as donors. "auto" is the `donor_key`
        of the run where it has one; None takes cells as replicates.
    threshold
        Size of log2 fold changes above which a gene counts as changed.
    rate
        Expected share of calls with the wrong sign (or within the threshold).

    Returns
    -------
    DataFrame indexed by gene, surest changes first (with several groups, one after the other, and
    a column `group`): posterior `mean`, `sd`, `low` and `high` (95% interval) of the log2 fold
    change; `lfsr`, its local false sign rate; `svalue`, the mean of it over surer genes; `called`,
    whether that is at most `rate`; `raw` and `raw_se`, the maximum-likelihood estimate and its
    standard error; `base_mean`, mean counts a cell in both groups; `detected_1` and `detected_2`,
    shares of cells with counts; cells and replicates of each group. `attrs["pgm_expr"]` states the
    estimand. The same results go to `data.uns["pgm_<story>_differential_expression"]`, in the
    layout that `scanpy.get.rank_genes_groups_df` reads, with `lfsr` as `pvals` and `svalue` as
    `pvals_adj`.

    Raises
    ------
    ValueError
        For unknown columns and levels, a story of log values, fewer than five cells a group, and
        fewer than two replicates a group.

    References
    ----------
    Stephens, Biostatistics 2017, https://doi.org/10.1093/biostatistics/kxw041
    Squair et al., Nature Communications 2021, https://doi.org/10.1038/s41467-021-25960-2

    Examples
    --------
    >>> table = run.differential_expression(adata, "cell_type", "a", "b")
    >>> list(table.columns[:7])
    ['mean', 'sd', 'low', 'high', 'lfsr', 'svalue', 'called']
    """
    import pandas as pd

    if run.takes != "counts":
        raise ValueError(
            f"the story {run.notes['story']} models log values, and differential expression reads "
            "counts. Fit a story of counts."
        )
    levels = obs_column(data, groupby)
    replicates = _replicates(run, data, replicate_key)
    cells, chosen = run.query(data), chosen_levels(levels, groupby, group1)
    tables = {}
    for level in chosen:
        sides = _sides(levels, groupby, level, group2)
        effect = _effect(run, cells, sides, replicates, threshold)
        table = _described(effect, cells, sides, replicates, rate)
        tables[level] = table.sort_values(["lfsr", "mean"], key=_order, kind="stable")
    data.uns[f"{run.prefix}_differential_expression"] = _ranked(tables, groupby, group2)
    if isinstance(group1, str):
        return tables[group1]
    found = pd.concat([table.assign(group=level) for level, table in tables.items()])
    found.attrs = tables[chosen[0]].attrs
    return found


def _order(column: pd.Series) -> pd.Series:
    return -column.abs() if column.name == "mean" else column


def obs_column(data: AnnData, key: str) -> np.ndarray:
    """A column of obs as text, (N,)."""
    if key not in data.obs:
        raise ValueError(f"'{key}' is not a column of obs: {', '.join(data.obs)}.")
    return data.obs[key].astype(str).to_numpy()


def _replicates(run: Fitted, data: AnnData, key: str | None) -> np.ndarray | None:
    donor = run.encoding.get(Donor)
    if key == "auto":
        key = donor.key if donor and donor.key in data.obs else None
    return None if key is None else obs_column(data, key)


def chosen_levels(
    levels: np.ndarray, groupby: str, group1: str | Sequence[str] | None
) -> list[str]:
    """Levels as named, all by default; ValueError for one that no cell has."""
    known = sorted(set(levels))
    wanted = known if group1 is None else [group1] if isinstance(group1, str) else list(group1)
    for level in wanted:
        if str(level) not in known:
            raise ValueError(f"no cell has {groupby} '{level}'. Known: {', '.join(known[:10])}.")
    return [str(level) for level in wanted]


def _sides(
    levels: np.ndarray, groupby: str, group1: str, group2: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the cells of both groups."""
    if group2 is not None:
        (group2,) = chosen_levels(levels, groupby, group2)
        if group1 == group2:
            raise ValueError(f"groups must differ: got '{group1}' twice. Name another group2.")
    other = levels != group1 if group2 is None else levels == group2
    sides = np.flatnonzero(levels == group1), np.flatnonzero(other)
    for name, side in zip((group1, group2 or REST), sides, strict=True):
        if len(side) < LEAST:
            raise ValueError(
                f"{groupby} '{name}' has {len(side)} cells, {LEAST} are needed. Pass more cells."
            )
    return sides


def _effect(
    run: Fitted,
    cells: Cells,
    sides: tuple[np.ndarray, np.ndarray],
    replicates: np.ndarray | None,
    threshold: float,
) -> Effect:
    one, other = sides
    index, group = np.concatenate([one, other]), np.repeat([1, 0], [len(one), len(other)])
    counts, genes = sparse.csr_array(cells.counts[index]), run.notes["genes"]
    if replicates is not None:
        x, group, names, block, how = _sums(counts, group, replicates[index])
        unit = np.arange(len(group))
        found = fold_changes(x, group, genes, unit=unit, block=block, threshold=threshold)
    else:
        how = {"estimand": "cells like these, of the same donors", "replicates": "cells"}
        relative = _relative(run, cells, index)
        found = fold_changes(counts, group, genes, relative=relative, threshold=threshold)
    found.attrs.update(how, story=run.notes["story"], threshold=threshold)
    return found


def _relative(run: Fitted, cells: Cells, index: np.ndarray) -> np.ndarray | None:
    """Expected shares of each cell; None for a story without states of cells."""
    if run.story.unit != "cells":
        return None
    return run.expected(cells, index, {}, library=1.0, draws=10)


def _sums(
    counts: sparse.csr_array, group: np.ndarray, replicates: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, dict[str, Any]]:
    """Counts summed by replicate and group; paired where enough replicates have both groups."""
    names, codes = np.unique(replicates, return_inverse=True)
    paired = np.isin(names, replicates[group == 0]) & np.isin(names, replicates[group == 1])
    pairs = paired.sum() >= max(PAIRS, len(names) / 2)
    kept = paired[codes] if pairs else np.ones(len(codes), bool)
    keys, rows = np.unique(codes[kept] * 2 + group[kept], return_inverse=True)
    each = np.bincount(keys % 2, minlength=2)
    if each.min() < 2:
        raise ValueError(
            f"the groups have {each[1]} and {each[0]} replicates, two each are needed for "
            "evidence about replicates. Pass replicate_key=None for evidence about these "
            "cells alone."
        )
    how = {
        "estimand": "the population that the replicates were drawn from",
        "replicates": f"{each[1]} against {each[0]}" + (", paired" if pairs else ""),
        "left_out": [] if not pairs else names[~paired].tolist(),
    }
    x = (indicator(rows) @ counts[np.flatnonzero(kept)]).toarray()
    return x, keys % 2, names[keys // 2], keys // 2 if pairs else None, how


def _described(
    effect: Effect,
    cells: Cells,
    sides: tuple[np.ndarray, np.ndarray],
    replicates: np.ndarray | None,
    rate: float,
) -> pd.DataFrame:
    table = effect.to_frame(rate=rate)
    both = [sparse.csr_array(cells.counts[side]) for side in sides]
    table["base_mean"] = sum(x.sum(0) for x in both) / sum(x.shape[0] for x in both)
    for i, (x, side) in enumerate(zip(both, sides, strict=True), 1):
        table[f"detected_{i}"] = (x > 0).sum(0) / x.shape[0]
        table[f"cells_{i}"] = x.shape[0]
        table[f"replicates_{i}"] = len(side if replicates is None else set(replicates[side]))
    return table


def _ranked(
    tables: dict[str, pd.DataFrame], groupby: str, group2: str | None
) -> dict[str, object]:
    """The layout of `scanpy.tl.rank_genes_groups`."""
    columns = {"logfoldchanges": "mean", "scores": "mean", "pvals": "lfsr", "pvals_adj": "svalue"}
    found: dict[str, object] = {
        "params": {
            "groupby": groupby,
            "reference": group2 or REST,
            "method": "pgm_expr",
            "use_raw": False,
            "layer": None,
            "corr_method": "mean of lfsr",
        },
        "names": _records({level: t.index.to_numpy(str) for level, t in tables.items()}),
    }
    for name, column in columns.items():
        found[name] = _records({level: t[column].to_numpy() for level, t in tables.items()})
    return found


def _records(values: dict[str, np.ndarray]) -> np.recarray:
    return np.rec.fromarrays([*values.values()], dtype=[(k, v.dtype) for k, v in values.items()])
