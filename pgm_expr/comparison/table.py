"""The table of a comparison: one row per variant, with differences to the best comparable one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .. import evaluation, report
from ..inference import write_atomically
from ..runs.folder import as_csv
from .grid import Variant

if TYPE_CHECKING:
    import pandas as pd

CSV, JSON, PICTURE = "comparison.csv", "comparison.json", "comparison.png"
COLUMNS = (
    "story objective beta likelihood prior posterior seeds heldout_elbo heldout_elbo_sd "
    "heldout_iwae heldout_iwae_sd heldout_iwae_4k heldout_iwae_4k_sd diff dse diff_sd tie "
    "kl kl_sd active_units probe_macro_f1 probe_macro_f1_sd seconds measure collapsed refused"
).split()


@dataclass(frozen=True)
class Comparison:
    """Figures of all variants, best first within a measure.

    Parameters
    ----------
    rows
        One per variant, refused ones last. `evaluation.rank` defines the held-out bounds, `diff`,
        `dse`, `diff_sd` and `tie`.
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
        """The rows as a DataFrame, best first within a measure."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=COLUMNS)

    def save(self, folder: Path) -> None:
        """Write comparison.csv, comparison.json and comparison.png."""
        write_atomically(folder / CSV, as_csv(self.rows, COLUMNS))
        content = {"rows": self.rows, "zero_inflation": self.zero_inflation, "draws": self.draws}
        write_atomically(folder / JSON, json.dumps(content, indent=1).encode())
        write_atomically(folder / PICTURE, report.comparison_picture(self.rows))


def tabulate(
    wanted: Sequence[Variant],
    refused: Mapping[Variant, str],
    done: Mapping[Variant, Mapping[int, Any]],
    draws: int,
) -> Comparison:
    """Rank the fits of all variants; refused ones come last, with the reason."""
    fits = {v: [done[v][seed] for seed in sorted(done[v])] for v in wanted if v not in refused}
    scores = {v: [tensors for tensors, _ in each] for v, each in fits.items()}
    figures = {v: [notes for _, notes in each] for v, each in fits.items()}
    measures = {v: notes[0]["measure"] for v, notes in figures.items()}
    ranked = evaluation.rank(scores, measures)
    first = {m: i for i, m in reversed([*enumerate(measures.values())])}
    order = sorted(ranked, key=lambda v: first[measures[v]])  # stable: still best first
    rows = [_row(v, ranked[v], figures[v]) for v in order]
    rows += [dict.fromkeys(COLUMNS) | dict(v.items()) | {"refused": refused[v]} for v in refused]
    return Comparison(rows, _zero_inflation(scores), draws)


def _row(variant: Variant, ranked: Mapping[str, Any], notes: Sequence[Mapping]) -> dict[str, Any]:
    row = dict.fromkeys(COLUMNS) | dict(variant.items()) | dict(ranked)
    row |= {"seeds": len(notes), "measure": notes[0]["measure"]}
    row["collapsed"] = sum(note["collapse"] is not None for note in notes)
    for key in ("kl", "active_units", "probe_macro_f1", "seconds"):
        values = [note[key] for note in notes if note[key] is not None]
        if values:
            both = torch.tensor(values, dtype=torch.double)
            row[key] = both.mean().item()
            if f"{key}_sd" in COLUMNS:
                row[f"{key}_sd"] = evaluation.spread(both)
    return row


def _zero_inflation(scores: Mapping[Variant, Any]) -> str | None:
    """`evaluation.zero_inflation` of all pairs of fits that differ in nb or zinb only."""
    nb, zinb = [], []
    for variant, fits in scores.items():
        twin = replace(variant, likelihood="zinb")
        if variant.likelihood == "nb" and twin in scores:
            pairs = list(zip(fits, scores[twin], strict=False))
            nb += [one for one, _ in pairs]
            zinb += [other for _, other in pairs]
    return evaluation.zero_inflation(nb, zinb) if nb else None
