"""A run in ArviZ's words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..evaluation import inference_data
from .bench import bench

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
    known = list(run.notes["genes"])
    if strange := [gene for gene in genes or () if gene not in known]:
        raise ValueError(
            f"the fit knows no gene {', '.join(map(repr, strange[:5]))}. Name others."
        )
    side = bench(run, data, cells=cells, draws=draws).held_out
    return inference_data.to_arviz(
        run.model,
        run.guide,
        side.batches(),
        draws=draws,
        cells=side.names,
        genes=known,
        only=None if genes is None else [known.index(gene) for gene in genes],
    )
