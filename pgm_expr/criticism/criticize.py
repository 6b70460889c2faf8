"""Criticise a run: measure every section on held-out cells, and keep what was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import zoo
from ..inference import seeded
from ..inference.progress import tally
from ..runs.fitted import Fitted
from ..runs.folder import CRITICISM
from .held_out import HeldOut
from .section import Section
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
    sections: Iterable[str | Section] | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Check model and guide on held-out cells, section by section.

    Memory is bounded by `cells`, not by the size of the data.

    Parameters
    ----------
    data
        Cells, as for `evaluate`. An AnnData receives the figures of each cell as
        `obs["pgm_<story>_pareto_k"]` and so on, NaN for cells that were not looked at, and
        `uns["pgm_<story>_health"]`.
    cells
        Maximum number of held-out cells.
    draws
        Importance draws per cell, at least 100.
    sections
        Names of sections, or sections of your own (`pgm_expr.criticism.section.Section`); all of
        the package by default.
    progress
        Show a bar on stderr.

    Returns
    -------
    dict
        Plain data by section; `not_measured` holds the reason for each section that these data
        do not allow, `collapse` a sentence where the latent space is not in use. All sections on
        the fit's test cells are kept as `criticism.json` in the
        run's folder.

    Raises
    ------
    ValueError
        For an unknown section.

    Examples
    --------
    >>> checks = run.criticize(cells=20, draws=100, sections=["typicality"], progress=False)
    >>> sorted(checks)
    ['cells', 'collapse', 'draws', 'not_measured', 'typicality']
    """
    on = HeldOut.of(run, data, cells=cells, draws=draws)
    chosen = SECTIONS if sections is None else [*map(_section, sections)]
    found: dict[str, Any] = {"cells": len(on.held_out), "draws": draws, "not_measured": {}}
    found["collapse"] = on.collapse
    title = str(run.folder.path) if run.folder else "criticism"
    for section in tally(chosen, chosen, what=f"{title}: section", show=progress):
        try:
            with seeded(on.seed):  # whatever sections came before
                found[section.name] = section.measure(on)
        except ValueError as error:
            found["not_measured"][section.name] = str(error)
    if data is not None and not isinstance(data, str | Path):
        _write(on, chosen, found, data)
    if data is None and sections is None:
        run.keep(CRITICISM, found)
    return found


def _section(named: str | Section) -> Section:
    if isinstance(named, Section):
        return named
    return zoo.pick("section", named, {section.name: section for section in SECTIONS})


def _write(
    on: HeldOut, sections: Sequence[Section], found: Mapping[str, Any], data: AnnData
) -> None:
    """Figures of each cell to obs, NaN for cells that were not looked at; summaries to uns."""
    at = data.obs_names.get_indexer(on.held_out.names)
    for section in sections:
        row = found.get(section.name)
        if row is None:
            continue
        for name in section.by_cell:
            column = np.full(data.n_obs, np.nan)
            column[at] = row["by_cell"][name]
            data.obs[f"{on.run.prefix}_{name}"] = column
        if section.summary:
            data.uns[f"{on.run.prefix}_{section.name}"] = {k: row[k] for k in section.summary}
