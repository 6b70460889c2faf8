"""Is the model right, is the guide right, how sure are we: every check of a run, as plain data.

Each section is a function of `HeldOut` that returns what JSON can hold. What cannot be measured on
these data (too few cells, no labels, no batches) is listed with its reason, never with a figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import zoo
from ..inference import seeded
from ..inference.progress import tally
from ..runs.fitted import Fitted
from ..runs.folder import CRITICISM
from .held_out import HeldOut
from .sections import SECTIONS

if TYPE_CHECKING:
    from anndata import AnnData

CELLS, DRAWS = 500, 1000  # held-out cells, and importance draws of each


def criticize(
    run: Fitted,
    data: AnnData | str | Path | None = None,
    *,
    cells: int = CELLS,
    draws: int = DRAWS,
    sections: Iterable[str] | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Every check of model and guide on held-out cells.

    Memory is bounded by `cells`, not by the size of the data.

    Parameters
    ----------
    data
        Cells, as for `evaluate`. An AnnData receives the figures of each cell as
        `obs["pgm_<story>_pareto_k"]` and so on, and `uns["pgm_<story>_health"]`.
    cells
        At most so many held-out cells.
    draws
        Importance draws of each cell.
    sections
        Names of sections; all by default.
    progress
        Show a bar on stderr.

    Returns
    -------
    Plain data by section; `not_measured` holds the reason for each section that these data do not
    allow. All sections on the fit's test cells are kept as `criticism.json` of the run's folder.

    Raises
    ------
    ValueError
        For an unknown section.

    Examples
    --------
    >>> checks = run.criticize(cells=20, draws=100, sections=["typicality"], progress=False)
    >>> sorted(checks)
    ['cells', 'draws', 'not_measured', 'typicality']
    """
    on = HeldOut.of(run, data, cells=cells, draws=draws)
    found: dict[str, Any] = {"cells": len(on.held_out), "draws": draws, "not_measured": {}}
    chosen = [*SECTIONS] if sections is None else [*sections]
    for name in chosen:
        zoo.pick("section", name, SECTIONS)
    title = str(run.folder.path) if run.folder else "criticism"
    for name in tally(chosen, chosen, what=f"{title}: section", show=progress):
        try:
            with seeded(on.seed):  # whatever sections came before
                found[name] = SECTIONS[name](on)
        except ValueError as error:
            found["not_measured"][name] = str(error)
    if hasattr(data, "obs"):
        _write(on, found, data)
    if data is None and sections is None:
        run.keep(CRITICISM, found)
    return found


def _write(on: HeldOut, found: Mapping[str, Any], data: AnnData) -> None:
    """Figures of each cell to obs, NaN for cells that were not looked at; the rest to uns."""
    at = data.obs_names.get_indexer(on.held_out.names)
    for section in ("health", "novelty", "typicality"):
        for name, values in found.get(section, {}).get("by_cell", {}).items():
            column = np.full(data.n_obs, np.nan)
            column[at] = values
            data.obs[f"{on.run.prefix}_{name}"] = column
    health = found.get("health", {})
    kept = ("pareto_k", "ess", "kl", "active_units", "mutual_information", "aggregate_gap")
    data.uns[f"{on.run.prefix}_health"] = {k: health[k] for k in kept if k in health}
