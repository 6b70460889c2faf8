"""What can be predicted from latent states? Probes of labels, batches, covariates and depth."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import evaluation
from ..evaluation.latent import fitted_probes
from ..report import Table, markup
from . import chance
from .held_out import HeldOut
from .metadata import Column, metadata
from .section import BAD, DOUBTFUL, GOOD, Section, Sentence

LEVELS = {"linear": fitted_probes.linear, "k-NN": fitted_probes.neighbours}
NUMBERS = {"linear": fitted_probes.ridge, "k-NN": fitted_probes.neighbours_mean}


def structure(on: HeldOut) -> list[dict[str, Any]]:
    """What probes predict: labels; and within labels the batch, covariates and depth."""
    columns, rows = metadata(on), []
    for name, column in columns.items():
        within = None if name == "label" else columns.get("label")
        what = name if within is None else f"{name} within label"
        rows += [{"what": what, **row} for row in _probed(on, column, within)]
    if all("why" in row for row in rows):
        raise ValueError(rows[0]["why"] if rows else chance.NO_COLUMN)
    return rows


def _probed(on: HeldOut, column: Column, labels: Column | None) -> list[dict[str, Any]]:
    """One row a probe: balanced accuracy of levels, held-out R^2 of numbers."""
    levels = _is_levels(column[0])
    test: chance.Test = evaluation.leakage if levels else evaluation.readability
    measure = "balanced accuracy" if levels else "R2"
    (a, b), (known, held_out) = on.states, column
    groups = [np.zeros(len(each), int) for each in column] if labels is None else labels
    here, there = (_usable(each, group) for each, group in zip(column, groups, strict=True))
    sides = a[here], known[here], b[there], held_out[there]
    among = {"train_groups": groups[0][here], "test_groups": groups[1][there]}
    return [
        {"probe": name, "measure": measure, **chance.tried(test, *sides, **among, probe=probe)}
        for name, probe in (LEVELS if levels else NUMBERS).items()
    ]


def _is_levels(column: np.ndarray) -> bool:
    return column.dtype.kind in "iu"


def _usable(column: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Cells whose level or number, and label, are known."""
    known = column >= 0 if _is_levels(column) else np.isfinite(column)
    return known & (groups >= 0)


def judge(found: list[dict[str, Any]]) -> Sentence | None:
    """Labels should be predictable from states, batches should not."""
    labels, batches = (_measured(found, kind) for kind in ("label", "batch"))
    if not labels and not batches:
        return None
    mark = BAD if labels and not _predictable(labels) else GOOD
    if _predictable(batches):
        mark = DOUBTFUL if all(row["score"] < row["chance"] + 0.1 for row in batches) else BAD
    best = [max(each, key=lambda row: row["score"]) for each in (labels, batches) if each]
    scores = "; ".join(
        f"{row['what']} {row['score']:.2f} (chance {row['chance']:.2f})" for row in best
    )
    return Sentence(
        mark,
        f"Latent states: balanced accuracy of the best probe: {scores}.",
        "a probe predicts labels (p < 0.05 / number of probes), and none predicts batches, within "
        "labels where there are any",
    )


def _measured(rows: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Rows of a column, within labels or not, that were measured."""
    return [row for row in rows if row["what"].split(" within ")[0] == kind and "score" in row]


def _predictable(rows: list[dict[str, Any]]) -> bool:
    return any(row["p"] < 0.05 / len(rows) for row in rows)


def page(found: list[dict[str, Any]]) -> list[str | Table]:
    """One row a column and probe, then why some were not measured."""
    rows = [
        (
            row["what"],
            row.get("probe", "linear"),  # as runs of 0.3 have no other
            row.get("measure", "balanced accuracy"),
            *chance.cells(row),
        )
        for row in found
    ]
    columns = ("column", "probe", "measure", *chance.COLUMNS)
    table = Table("Scores on held-out cells", columns, rows, words=3)
    return [table, *chance.reasons(found)]


SECTION = Section(
    name="structure",
    question="What can be predicted from latent states?",
    measure=structure,
    judge=judge,
    page=page,
    html=lambda found: markup(*page(found)),
    rank=80,
)
