"""What can be predicted from latent states? Probes of labels, batches, covariates and depth."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import norm

from .. import evaluation
from ..evaluation.latent import fitted_probes
from ..evaluation.latent.probes import pca
from ..report import Table, markup
from . import chance
from .held_out import HeldOut
from .metadata import Column, metadata
from .section import ALPHA, BAD, CHANCE, DOUBTFUL, GOOD, Section, Sentence, mark

LEVELS = {"linear": fitted_probes.linear, "k-NN": fitted_probes.neighbours}
COMPONENTS = 10  # principal components that labels are predicted from too
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
    for row in rows:
        if row["what"] == "label" and "score" in row:
            row |= _beside_components(on, columns["label"], LEVELS[row["probe"]])
    return rows


def _beside_components(
    on: HeldOut, labels: Column, probe: fitted_probes.Probe
) -> dict[str, float]:
    """Balanced accuracy of the same probe of principal components, and what states have less."""
    size = min(COMPONENTS, min(on.known.counts.shape) - 1)
    known, held_out = pca(on.known.counts, on.held_out.counts, size=size)
    by_states = _right(on.states.known, on.states.held_out, labels, probe)
    by_components = _right(known, held_out, labels, probe)
    at = labels[1][labels[1] >= 0]
    weights = 1 / (np.bincount(at)[at] * len(np.unique(at)))  # each label counts as much
    missed = by_components.astype(float) - by_states
    below = float(weights @ missed)
    se = np.sqrt(weights**2 @ ((missed - below) ** 2 + 1 / len(missed)))
    accuracy = float(weights @ by_components)
    return {"components": accuracy, "below": below, "below_p": float(norm.sf(below / se))}


def _right(
    z: np.ndarray, other: np.ndarray, labels: Column, probe: fitted_probes.Probe
) -> np.ndarray:
    """Whether the label of each held-out cell that has one is predicted."""
    known, held_out = (each >= 0 for each in labels)
    predicted = probe(z[known], other[held_out])(labels[0][known])
    return predicted == labels[1][held_out]


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
    marks = {_of_labels(labels) if labels else GOOD, _of_batches(batches)}
    worst = next(each for each in (BAD, DOUBTFUL, GOOD) if each in marks)
    best = [max(each, key=lambda row: row["score"]) for each in (labels, batches) if each]
    scores = "; ".join(
        f"{row['what']} {row['score']:.2f} (chance {row['chance']:.2f}{_components(row)})"
        for row in best
    )
    return Sentence(
        worst,
        f"Latent states: balanced accuracy of the best probe: {scores}.",
        "labels are predicted from states as well as from principal components: accuracy at most "
        "0.05 below (bad from 0.15), or not significantly; batches are not predicted, within "
        "labels where there are any: accuracy at most 0.05 above chance (bad from 0.15), or not "
        f"significantly; {CHANCE}",
    )


def _components(row: dict[str, Any]) -> str:
    return f", principal components {row['components']:.2f}" if "components" in row else ""


def _of_labels(rows: list[dict[str, Any]]) -> str:
    """By how much less is predicted from states than from components, for the better probe."""
    if "components" not in rows[0]:  # measured by a version before 0.7
        return GOOD if any(row["p"] < 0.05 / len(rows) for row in rows) else BAD
    best = max(rows, key=lambda row: row["score"])
    below = max(row["components"] for row in rows) - best["score"]
    sure = all(row["below_p"] <= ALPHA / 2 for row in rows)
    return mark(below, 0.05, 0.15) if sure else GOOD


def _of_batches(rows: list[dict[str, Any]]) -> str:
    """By how much more than chance is predicted, where it is significant."""
    sure = [row for row in rows if row["p"] <= ALPHA / 2 / len(rows)]
    return mark(max((row["score"] - row["chance"] for row in sure), default=0.0), 0.05, 0.15)


def _measured(rows: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Rows of a column, within labels or not, that were measured."""
    return [row for row in rows if row["what"].split(" within ")[0] == kind and "score" in row]


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
