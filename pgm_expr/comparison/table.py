"""The table of a comparison: one row per variant, with differences to the first of its measure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .. import evaluation, report
from ..inference import write_atomically
from ..runs.folder import as_csv
from .fits import Result
from .grid import Variant

if TYPE_CHECKING:
    import pandas as pd

Fits = Sequence[Sequence[Result]]  # of one variant, by split and seed
CSV, JSON, PICTURE = "comparison.csv", "comparison.json", "comparison.png"
COLUMNS = (
    "story objective beta likelihood prior posterior splits seeds validation validation_sd "
    "heldout_elbo heldout_elbo_sd heldout_iwae heldout_iwae_sd heldout_iwae_4k "
    "heldout_iwae_4k_sd diff se se_cells se_seeds se_splits tie "
    "kl kl_sd active_units probe_macro_f1 probe_macro_f1_sd seconds measure collapsed refused"
).split()


@dataclass(frozen=True)
class Comparison:
    """Figures of all variants, best on validation cells first within a measure.

    Parameters
    ----------
    rows
        One per variant, refused ones last. `evaluation.rank` defines the bounds of validation and
        held-out cells, `diff`, its standard errors and `tie`.
    zero_inflation
        Whether zero inflation improves the bound, in two sentences; None unless two variants
        differ in it alone.
    draws
        Number of draws K of the importance-weighted bound.
    """

    rows: list[dict[str, Any]]
    zero_inflation: str | None = None
    draws: int = 500

    def to_frame(self) -> pd.DataFrame:
        """The rows as a DataFrame, best on validation cells first within a measure."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=COLUMNS)

    def save(self, folder: Path) -> None:
        """Write comparison.csv, comparison.json and comparison.png."""
        write_atomically(folder / CSV, as_csv(self.rows, COLUMNS))
        content = {"rows": self.rows, "zero_inflation": self.zero_inflation, "draws": self.draws}
        write_atomically(folder / JSON, json.dumps(content, indent=1).encode())
        write_atomically(folder / PICTURE, report.comparison_picture(self.rows))


def tabulate(
    fits: Mapping[Variant, Fits], refused: Mapping[Variant, str], draws: int, ratio: float
) -> Comparison:
    """Rank the fits of all variants; refused ones come last, with the reason."""
    scores = {v: [[tensors for tensors, _ in split] for split in f] for v, f in fits.items()}
    figures = {v: [[notes for _, notes in split] for split in f] for v, f in fits.items()}
    measures = {v: notes[0][0]["measure"] for v, notes in figures.items()}
    ranked = evaluation.rank(scores, measures, ratio=ratio)
    first = {m: i for i, m in reversed([*enumerate(measures.values())])}
    order = sorted(ranked, key=lambda v: first[measures[v]])  # stable: still best first
    rows = [_row(v, ranked[v], figures[v]) for v in order]
    rows += [dict.fromkeys(COLUMNS) | dict(v.items()) | {"refused": refused[v]} for v in refused]
    return Comparison(rows, _zero_inflation(scores, ratio), draws)


def _row(
    variant: Variant, ranked: Mapping[str, Any], notes: Sequence[Sequence[Mapping]]
) -> dict[str, Any]:
    row = dict.fromkeys(COLUMNS) | dict(variant.items()) | dict(ranked)
    row |= {"splits": len(notes), "seeds": len(notes[0]), "measure": notes[0][0]["measure"]}
    row["collapsed"] = sum(note["collapse"] is not None for split in notes for note in split)
    for key in ("kl", "active_units", "probe_macro_f1", "seconds"):
        values = [[note[key] for note in split] for split in notes]
        if None not in chain(*values):
            by_split = torch.tensor(values, dtype=torch.double)
            row[key] = by_split.mean().item()
            if f"{key}_sd" in COLUMNS:
                row[f"{key}_sd"] = evaluation.spread(by_split)
    return row


def _zero_inflation(scores: Mapping[Variant, Any], ratio: float) -> str | None:
    """`evaluation.zero_inflation` of all pairs of fits that differ in nb or zinb only."""
    twins = [(v, replace(v, likelihood="zinb")) for v in scores if v.likelihood == "nb"]
    both = [(scores[nb], scores[zinb]) for nb, zinb in twins if zinb in scores]
    if not both:
        return None
    nb, zinb = (_joined(side) for side in zip(*both, strict=True))
    return evaluation.zero_inflation(nb, zinb, ratio=ratio)


def _joined(fits: Sequence[Sequence[Sequence[Any]]]) -> list[list[Any]]:
    """Fits of several variants as if they were seeds of one, by split."""
    return [[*chain(*splits)] for splits in zip(*fits, strict=True)]
