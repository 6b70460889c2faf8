"""How expression differs between two groups of cells, and how sure that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..evaluation.effects import differential
from ..runs.subset import Subset

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from ..runs.fitted import Fitted


def differential_expression(
    run: Fitted, data: AnnData, groups: str, one: str, other: str, *, draws: int = 100
) -> pd.DataFrame:
    """Posterior log2 fold changes between two groups of cells, by gene.

    The posterior is of the states of these cells given the weights: cells of one donor are no
    replicates.

    Parameters
    ----------
    data
        Cells, as for `embed`, as an AnnData.
    groups
        A column of obs.
    one, other
        Two of its levels; fold changes are of `one` over `other`.
    draws
        Posterior draws.

    Returns
    -------
    DataFrame indexed by gene, most probable changes first: `mean`, `sd`, `low` and `high` (95%
    interval) of the log2 fold change, `probability` that it exceeds 0.25 in size, and `called`
    (expected share of false calls at most 0.05).

    Raises
    ------
    ValueError
        For unknown columns and levels.

    References
    ----------
    Boyeau et al., PNAS 2023, https://doi.org/10.1073/pnas.2209124120

    Examples
    --------
    >>> table = run.differential_expression(adata, "cell_type", "a", "b", draws=20)
    >>> list(table.columns)
    ['mean', 'sd', 'low', 'high', 'probability', 'called']
    """
    import pandas as pd

    if groups not in data.obs:
        raise ValueError(f"'{groups}' is not a column of obs: {', '.join(data.obs)}.")
    levels, cells = data.obs[groups].astype(str).to_numpy(), run.query(data)
    sides = []
    for level in (one, other):
        at = np.flatnonzero(levels == str(level))
        if not len(at):
            raise ValueError(
                f"no cell has {groups} '{level}'. Known: {', '.join(sorted(set(levels))[:10])}."
            )
        sides.append(Subset(cells, at).batches())
    found = differential.posterior_fold_change(run.model, run.guide, *sides, draws=draws)
    low, high = found.interval()
    table = pd.DataFrame(
        {
            "mean": found.mean,
            "sd": found.sd,
            "low": low,
            "high": high,
            "probability": found.probability(),
            "called": found.calls(),
        },
        index=run.notes["genes"],
    )
    return table.sort_values(["probability", "mean"], ascending=False)
