"""Is the model right, is the guide right, how sure are we: every check of a run, as plain data.

Each section is a function of a `Bench` that returns what JSON can hold. What cannot be measured on
these data (too few cells, no labels, no batches) is told by its reason, never by a figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import zoo
from ..inference import seeded
from .bench import Bench, bench
from .sections import SECTIONS

if TYPE_CHECKING:
    from anndata import AnnData

    from .run import Run

CELLS, DRAWS = 500, 1000  # held-out cells, and importance draws of each


def criticize(
    run: Run,
    data: AnnData | str | Path | None = None,
    *,
    cells: int = CELLS,
    draws: int = DRAWS,
    sections: Iterable[str] | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, Any]:
    """See `Run.criticize`."""
    on = bench(run, data, cells=cells, draws=draws)
    told = {"cells": len(on.held_out), "draws": draws, "not_measured": {}}
    chosen = [*SECTIONS] if sections is None else [*sections]
    for name in progress(chosen):
        try:
            section = zoo.pick("section", name, SECTIONS)
            with seeded(on.seed):  # whatever sections came before
                told[name] = section(on)
        except ValueError as error:
            if name not in SECTIONS:
                raise
            told["not_measured"][name] = str(error)
    if hasattr(data, "obs"):
        _write(on, told, data)
    return {key: value for key, value in told.items() if not key.startswith("_")}


def _write(on: Bench, told: Mapping[str, Any], data: AnnData) -> None:
    """Figures of each cell to obs, NaN for cells that were not looked at; the rest to uns."""
    at = data.obs_names.get_indexer(on.held_out.names)
    for section in ("health", "novelty", "typicality"):
        for name, values in told.get(section, {}).get("by_cell", {}).items():
            column = np.full(data.n_obs, np.nan)
            column[at] = values
            data.obs[f"{on.run.prefix}_{name}"] = column
    health = told.get("health", {})
    kept = ("pareto_k", "ess", "kl", "active_units", "mutual_information", "aggregate_gap")
    data.uns[f"{on.run.prefix}_health"] = {k: health[k] for k in kept if k in health}
