"""The fold change that a fitted story expects of the states of two groups of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..evaluation.effects.differential import posterior_fold_change
from ..runs.subset import Subset
from .differential_expression import chosen_levels, obs_column

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from ..runs.fitted import Fitted


def state_fold_change(
    run: Fitted, data: AnnData, groupby: str, group1: str, group2: str, *, draws: int = 100
) -> pd.DataFrame:
    """Log2 fold changes between the expected expression of two groups of cells.

    The posterior is of the states of these cells given the weights: it describes what the story
    has learnt, knows nothing of how cells and donors were sampled, and is no evidence of a
    difference. `differential_expression` is.

    Parameters
    ----------
    data
        Cells, as for `embed`, as an AnnData.
    groupby
        A column of obs.
    group1, group2
        Two of its levels; fold changes are of `group1` over `group2`.
    draws
        Posterior draws.

    Returns
    -------
    DataFrame indexed by gene: `mean`, `sd`, `low` and `high` (95% interval) over draws of states.

    Raises
    ------
    ValueError
        For unknown columns and levels.

    Examples
    --------
    >>> table = run.state_fold_change(adata, "cell_type", "a", "b", draws=20)
    >>> list(table.columns)
    ['mean', 'sd', 'low', 'high']
    """
    import pandas as pd

    levels, cells = obs_column(data, groupby), run.query(data)
    for level in (group1, group2):
        chosen_levels(levels, groupby, level)
    sides = (Subset(cells, np.flatnonzero(levels == str(g))).batches() for g in (group1, group2))
    found = posterior_fold_change(run.model, run.guide, *sides, draws=draws)
    low, high = found.interval()
    columns = {"mean": found.mean, "sd": found.sd, "low": low, "high": high}
    return pd.DataFrame(columns, index=run.notes["genes"])
