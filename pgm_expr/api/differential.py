"""How expression differs between two groups of cells, and how sure that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..evaluation import differential
from .bench import Side

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from .run import Run


def differential_expression(
    run: Run, data: AnnData, groups: str, one: str, other: str, draws: int
) -> pd.DataFrame:
    """See `Run.differential_expression`."""
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
        sides.append(Side(cells, at).batches())
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
