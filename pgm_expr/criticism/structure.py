"""What states tell of metadata: by probes, in shares of their variance, and how batches mix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import evaluation
from ..evaluation.latent import fitted_probes as readers
from ..evaluation.latent.mixing import mixing
from .held_out import HeldOut
from .metadata import Column, metadata

LEVELS = {"linear": readers.linear, "k-NN": readers.neighbours}
NUMBERS = {"linear": readers.ridge, "k-NN": readers.neighbours_mean}
NO_COLUMN = "the data name no label, batch or covariate. Fit with labels_key or batch_key."


def structure(on: HeldOut) -> list[dict[str, Any]]:
    """What probes read of states: labels; the batch, covariates and depth within labels."""
    columns, rows = metadata(on), []
    for name, column in columns.items():
        within = None if name == "label" else columns.get("label")
        what = name if within is None else f"{name} within label"
        rows += [{"what": what, **row} for row in _probed(on, column, within)]
    if all("why" in row for row in rows):
        raise ValueError(rows[0]["why"] if rows else NO_COLUMN)
    return rows


def _probed(on: HeldOut, column: Column, labels: Column | None) -> list[dict[str, Any]]:
    """One row a probe: of levels by balanced accuracy, of numbers by held-out R^2."""
    ask, probes, measure = evaluation.readability, NUMBERS, "R2"
    if _is_levels(column[0]):
        ask, probes, measure = evaluation.leakage, LEVELS, "balanced accuracy"
    (a, b), (known, held_out) = on.states, column
    groups = [np.zeros(len(each), int) for each in column] if labels is None else labels
    here, there = (_usable(each, group) for each, group in zip(column, groups, strict=True))
    sides = a[here], known[here], b[there], held_out[there]
    among = {"train_groups": groups[0][here], "test_groups": groups[1][there]}
    return [
        {"probe": name, "measure": measure, **_tried(ask, *sides, **among, probe=probe)}
        for name, probe in probes.items()
    ]


def _is_levels(column: np.ndarray) -> bool:
    return column.dtype.kind in "iu"


def _usable(column: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Cells whose level or number, and label, are known."""
    known = column >= 0 if _is_levels(column) else np.isfinite(column)
    return known & (groups >= 0)


def _tried(measure: Callable[..., NamedTuple], *arguments: Any, **named: Any) -> dict[str, Any]:
    """Score, chance and p, else why there are none."""
    try:
        score, chance, p, _ = measure(*arguments, **named)
    except ValueError as error:
        return {"why": str(error)}
    return {"score": score, "chance": chance, "p": p}


def explained(on: HeldOut) -> dict[str, Any]:
    """Shares of the variance of held-out states: each column alone, beyond others, together."""
    columns = {name: held_out for name, (_, held_out) in metadata(on).items()}
    z, rows = on.states.held_out, []
    for name, column in columns.items():
        others = [other for key, other in columns.items() if key != name]
        alone = _tried(evaluation.explained, z, [column])
        beyond = _tried(evaluation.explained, z, [column], given=others)
        rows.append({"what": name, "alone": alone, "beyond": beyond})
    if all("why" in row["alone"] for row in rows):
        raise ValueError(rows[0]["alone"]["why"] if rows else NO_COLUMN)
    return {"rows": rows, "together": _tried(evaluation.explained, z, [*columns.values()])}


def mixed(on: HeldOut) -> list[dict[str, Any]]:
    """How batches of held-out cells mix among the nearest states, within labels where known."""
    batches, labels = (on.held_out.column(name) for name in ("batch", "label"))
    if batches is None:
        raise ValueError("the data name no batch. Fit with batch_key.")
    at = np.ones(len(batches), bool) if labels is None else labels >= 0
    found = mixing(on.states.held_out[at], batches[at], None if labels is None else labels[at])
    return [{"what": name, **each._asdict()} for name, each in found.items()]
