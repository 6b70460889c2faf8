"""A run in ArviZ's words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..evaluation import inference_data, predict, thinning
from ..evaluation.loo_pit import left_out
from .bench import Side, bench

if TYPE_CHECKING:
    from anndata import AnnData

    from .run import Run


def to_arviz(
    run: Run,
    data: AnnData | str | Path | None,
    *,
    cells: int,
    genes: Sequence[str] | None,
    draws: int,
) -> Any:
    """See `Run.to_arviz`."""
    side, only = _chosen(run, data, cells, genes, draws)
    return inference_data.to_arviz(
        run.model,
        run.guide,
        side.batches(),
        draws=draws,
        cells=side.names,
        genes=list(run.notes["genes"]),
        only=only,
    )


def loo_pit(
    run: Run,
    data: AnnData | str | Path | None,
    *,
    cells: int,
    genes: Sequence[str] | None,
    draws: int,
) -> dict[str, np.ndarray]:
    """See `Run.loo_pit`."""
    side, only = _chosen(run, data, cells, genes, draws)
    pairs = thinning.halves(side.batches())
    return left_out(partial(predict, run.model, run.guide), pairs, draws=draws, only=only)


def _chosen(
    run: Run,
    data: AnnData | str | Path | None,
    cells: int,
    genes: Sequence[str] | None,
    draws: int,
) -> tuple[Side, list[int] | None]:
    """Held-out cells, and positions of genes; ValueError for genes that the fit does not know."""
    known = list(run.notes["genes"])
    if strange := [gene for gene in genes or () if gene not in known]:
        raise ValueError(
            f"the fit knows no gene {', '.join(map(repr, strange[:5]))}. Name others."
        )
    side = bench(run, data, cells=cells, draws=draws).held_out
    return side, None if genes is None else [known.index(gene) for gene in genes]
