"""Covariates of simulated cells: libraries and metadata of training cells, kept with the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import FIELDS, Encoding
from .table import Table

if TYPE_CHECKING:
    from anndata import AnnData

ROWS = 1000  # training cells whose metadata are kept, with their libraries
KEPT = {field.entry: field.dtype for field in FIELDS if field.settable and field.entry}


def missing_entries(n: int) -> dict[str, np.ndarray]:
    """Entries of n cells that a model predicts and cannot be conditioned on: missing in all."""
    predicted = (field for field in FIELDS if not field.settable)
    missing = {field.entry: field.missing for field in predicted if field.missing is not None}
    return {entry: np.repeat(row[None], n, axis=0) for entry, row in missing.items()}


def population(table: Table) -> dict[str, list]:
    """Library and encoded metadata of up to `ROWS` training cells, as plain lists."""
    rows = table.cells.rows(table.split.train[:ROWS])
    kept = {"library": rows["library"][:, 0]} | {k: rows[k] for k in KEPT if k in rows}
    return {key: value.cpu().numpy().round(4).tolist() for key, value in kept.items()}


def kept_cells(
    notes: Mapping[str, Any], most: int = ROWS
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Libraries and encoded metadata of the cells kept with a run, `most` of them at most."""
    kept = {key: value[:most] for key, value in notes["population"].items()}
    encoded = {k: np.asarray(kept[k], dtype) for k, dtype in KEPT.items() if k in kept}
    return np.asarray(kept["library"]), encoded


def draw_covariates(
    notes: Mapping[str, Any], n: int, condition: Mapping[str, object], rng: np.random.Generator
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Libraries (n,) and encoded metadata of n cells: of those kept, changed to `condition`.

    From cells that are of that condition, where there are any: they bring its libraries along.
    """
    library, encoded = kept_cells(notes)
    encoding = Encoding.from_json(notes["encoding"])
    changed = encoding.set_to(encoded, condition, len(library)) if condition else encoded
    same = ~differ(encoded, changed)
    among = np.flatnonzero(same) if same.any() else np.arange(len(library))
    chosen = rng.choice(among, n)
    return library[chosen], {key: value[chosen] for key, value in changed.items()}


def as_cells(
    notes: Mapping[str, Any],
    counts: np.ndarray,
    library: np.ndarray,
    condition: Mapping[str, object],
) -> AnnData:
    """Drawn counts (n, G) as cells of the run's genes, their libraries and conditions in obs."""
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    drawn = AnnData(csr_matrix(counts.astype(np.int32)))
    drawn.var_names, drawn.obs["library"] = notes["genes"], library
    for name, level in condition.items():
        drawn.obs[name] = level
    return drawn


def differ(own: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which cells have another entry than before, (N,)."""
    changed = [
        (own[key] != value).reshape(len(value), -1).any(1) if key in own else np.ones(len(value))
        for key, value in other.items()
    ]
    return np.any(changed, axis=0) if changed else np.zeros(0, bool)
