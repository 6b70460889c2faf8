"""Interferon against control with donors as replicates, beside a pseudobulk test.

    PGM_EXPR_DATA=FOLDER python benchmarks/kang_donors.py

Kang et al. 2018: 8 donors with cells of each type in both conditions. Counts are summed by donor
and condition; genes have 100 counts in all. The rival is a paired t test of log counts by
median-ratio size factors, at a false discovery rate of 0.05. `recalled`: share of its calls that
are called with the same sign. `excluded`: genes whose difference is below 0.25 by 2 standard
errors of the rival, and how many of those are called.
"""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from pathlib import Path

import numpy as np
from anndata import read_h5ad
from scipy import sparse, stats

from pgm_expr.evaluation.effects.fold_change import fold_changes

RESULTS = Path(__file__).parent / "results" / "kang_donors.json"
COLUMNS = {
    "type": "cell type",
    "donors": "pairs",
    "genes": "genes",
    "called": "called",
    "rival": "called by the rival",
    "recalled": "recalled",
    "excluded": "excluded",
    "excluded_called": "of those called",
}
PAIRS, COUNTS = 4, 100


def main() -> None:
    data = read_h5ad(Path(os.environ["PGM_EXPR_DATA"]) / "kang_ifnb_2k.h5ad")
    data = data[~data.obs.donor.isin(["NA", "AMB"])]
    rows = [row for name in sorted(set(data.obs.cell_type)) if (row := one(data, name))]
    for row in rows:
        print(row)
    found = {"benchmark": "kang_donors", "command": "python benchmarks/kang_donors.py"}
    found |= {"version": version("pgm_expr"), "columns": COLUMNS, "rows": rows}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def one(data, name: str) -> dict | None:
    """Figures of one cell type; None with too few donors in both conditions."""
    cells = data[data.obs.cell_type == name]
    donor, group = cells.obs.donor.to_numpy(str), (cells.obs.condition == "stim").to_numpy(int)
    both = sorted(set(donor[group == 0]) & set(donor[group == 1]))
    if len(both) < PAIRS:
        return None
    x = sparse.csr_array(cells.X)
    sums = np.stack([x[(donor == d) & (group == g)].sum(0) for d in both for g in (0, 1)])
    sides, block = np.tile([0, 1], len(both)), np.repeat(np.arange(len(both)), 2)
    genes = np.flatnonzero(sums.sum(0) >= COUNTS)
    x = sums[:, genes]
    effect = fold_changes(x, sides, genes.astype(str), unit=np.arange(len(x)), block=block)
    logged = np.log2((x + 0.5) / _size_factors(x))
    change = logged[sides == 1] - logged[sides == 0]
    p = stats.ttest_1samp(change, 0).pvalue
    rival = stats.false_discovery_control(np.nan_to_num(p, nan=1)) <= 0.05
    called, mean = effect.called(), change.mean(0)
    same = called & (np.sign(effect.mean) == np.sign(mean))
    error = change.std(0, ddof=1) / len(both) ** 0.5
    excluded = np.abs(mean) + 2 * error < 0.25
    return {
        "type": name,
        "donors": len(both),
        "genes": len(genes),
        "called": int(called.sum()),
        "rival": int(rival.sum()),
        "recalled": round(float(same[rival].mean()), 3) if rival.any() else "",
        "excluded": int(excluded.sum()),
        "excluded_called": int((excluded & called).sum()),
    }


def _size_factors(x: np.ndarray) -> np.ndarray:
    """Median ratios to the geometric mean over genes that all samples count, (n, 1)."""
    logged = np.log(x[:, (x > 0).all(0)])
    return np.exp(np.median(logged - logged.mean(0), axis=1, keepdims=True))


if __name__ == "__main__":
    main()
