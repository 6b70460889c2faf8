"""Are differences between groups preserved in drawn counts? Log fold changes of two groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse

from .. import evaluation
from ..data.fields import Batch, Label
from ..evaluation.counts.replicates import exchanged
from ..evaluation.effects.differential import fold_change
from ..report import Table, markup
from .held_out import HeldOut, plain
from .section import ALPHA, CHANCE, GOOD, Section, Sentence, mark

MINIMUM = 50  # counts of a gene that is compared


def differential(on: HeldOut) -> dict[str, Any]:
    """Fold changes between the two commonest labels, or batches, in posterior draws."""
    name, codes, levels = _groups(on)
    kinds, sizes = np.unique(codes[codes >= 0], return_counts=True)
    if len(kinds) < 2:
        raise ValueError(f"the held-out cells have one {name}. Hold out more.")
    pair = kinds[np.argsort(-sizes)[:2]]
    at = np.isin(codes, pair)
    groups = (codes[at] == pair[1]).astype(int)
    x = torch.cat([*on.drawn("posterior")]).cpu().numpy()
    found = evaluation.kept(on.held_out.counts[at], groups, x[at], groups)
    ceiling = found.ceiling and found.ceiling._asdict()
    row = {**found._asdict(), "ceiling": ceiling, "of": name, **_tested(on, at, groups)}
    return plain(row) | {"groups": [str(levels[k]) for k in pair]}


def _tested(on: HeldOut, at: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """Agreement of fold changes expected where the story is true, and p of what was found."""
    versions = [x[at] for x in on.version_counts]
    rows, cells = sparse.csr_array(sparse.vstack(versions)), len(groups)
    chosen = np.asarray(rows.sum(0)).ravel() >= MINIMUM * len(versions)
    if chosen.sum() < 3:
        return {}

    def change(version: np.ndarray) -> np.ndarray:
        return fold_change(rows[version * cells + np.arange(cells)], groups)[chosen]

    def apart(one: np.ndarray, rest: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([1 - np.mean([np.corrcoef(one, other)[0, 1] for other in rest])])

    tested = exchanged(change, apart, versions=len(versions), cells=cells)
    value, expected, p = (float(each[0]) for each in tested)
    return {"r_replicates": 1 - value, "r_expected": 1 - expected, "p": p}


def _groups(on: HeldOut) -> tuple[str, np.ndarray, Sequence[str]]:
    """The column that groups the held-out cells, its codes and their levels."""
    encoding = on.run.encoding
    for field in (encoding.get(Label), encoding.get(Batch)):
        codes = on.held_out.column(field.entry) if field else None
        if field is not None and codes is not None:
            return field.entry, codes, field.levels
    raise ValueError("requires labels or batches: got none. Pass labels_key or batch_key to fit.")


def judge(found: dict[str, Any]) -> Sentence:
    """By the correlation of fold changes below what a true story has."""
    usual = found.get("r_expected", found["ceiling"]["r"])
    below = usual - found.get("r_replicates", found["r"])
    return Sentence(
        mark(below, 0.05, 0.15) if found.get("p", 0.0) <= ALPHA else GOOD,
        f"Differences between groups: log fold changes of {found['groups'][0]} against "
        f"{found['groups'][1]}, drawn against real: r {found['r']:.2f} (a true story: "
        f"{usual:.2f}).",
        "r at most 0.05 below that of replicates among themselves, or not significantly; "
        f"{CHANCE}; doubtful down to 0.15",
    )


def page(found: dict[str, Any]) -> list[str | Table]:
    """Correlation, slope and strongest genes, each beside two halves of the real cells."""
    ceiling = found["ceiling"]
    rows = [
        ("Pearson r", f"{found['r']:.3f}", f"{ceiling['r']:.3f}"),
        ("slope", f"{found['slope']:.2f}", f"{ceiling['slope']:.2f}"),
        ("strongest genes in common", f"{found['top']:.0%}", f"{ceiling['top']:.0%}"),
    ]
    title = f"Log fold changes, {found['groups'][0]} against {found['groups'][1]}"
    return [Table(title, ("figure", "drawn against real", "halves of real cells"), rows)]


SECTION = Section(
    name="differential",
    question="Are differences between groups preserved in drawn counts?",
    measure=differential,
    judge=judge,
    page=page,
    html=lambda found: markup(*page(found)),
    rank=100,
)
