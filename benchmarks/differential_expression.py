"""Calls of differential expression that are false, intervals that hold, and power.

    python benchmarks/differential_expression.py

Simulated cells of four types in two conditions that change 30% of 600 genes (or none). `cells`: a
side; `fitted to`: how many cells the story was fitted to, with the condition as its batch (cvae)
or without it (vae). `donors`: sums of 100 cells each, with programs and genes that vary between
donors; `paired` has each donor in both groups. `halves`: random halves of real CD4 T cells.
The rival is Wilcoxon's test between cells and Welch's t test between donors, at a false discovery
rate of 0.05. Results are means over data sets; `any` is the share of data sets with a call.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from anndata import AnnData, read_h5ad
from scipy import sparse, stats

import pgm_expr
from pgm_expr.evaluation.effects.effect import Effect
from pgm_expr.evaluation.effects.fold_change import fold_changes
from pgm_expr.simulate import simulate

RESULTS = Path(__file__).parent / "results" / "differential_expression.json"
GENES = 600
COLUMNS = {
    "design": "design",
    "sets": "data sets",
    "any": "any",
    "fdr": "false discovery share",
    "coverage": "95% intervals hold",
    "slope": "slope, truth on mean",
    "slope_raw": "slope, raw on truth",
    "power": "power",
    "fdr_rival": "false share, rival",
    "power_rival": "power, rival",
}
Case = tuple[Effect, np.ndarray, np.ndarray]  # effect, true log2 fold changes, calls of the rival


def cells_case(story: str, side: int, fitted: int, null: float, seed: int) -> Case:
    """Two conditions of `side` cells each, of `fitted` cells that a story was fitted to."""
    truth = simulate(fitted, GENES, seed=seed, conditions=2, null=null)
    condition = truth.condition.astype(str)
    adata = AnnData(truth.x.astype(np.float32), obs={"condition": condition})
    columns = {"batch_key": "condition"} if story == "cvae" else {}
    run = pgm_expr.fit(adata, story=story, progress=False, **columns)
    rng = np.random.default_rng(seed)
    at = [rng.permutation(np.flatnonzero(truth.condition == s))[:side] for s in (0, 1)]
    some = adata[np.concatenate(at)].copy()
    group = some.obs["condition"].to_numpy().astype(int)
    genes = np.array(run.notes["genes"]).astype(int)
    x = sparse.csr_array(some.X)[:, genes]
    relative = run.normalized_expression(some)
    effect = fold_changes(x, group, run.notes["genes"], relative=relative)
    logged = np.log1p(x.toarray() / x.sum(1)[:, None].clip(1) * 1e4)
    p = stats.mannwhitneyu(logged[group == 1], logged[group == 0], axis=0).pvalue
    return effect, truth.condition_effect[1][genes] / np.log(2), _rejected(p)


def donors_case(paired: bool, null: float, seed: int, shared: float = 0.2) -> Case:
    """Eight donors, four a group, or all in both."""
    rng, donors = np.random.default_rng(seed), 8
    base = rng.normal(0, 1.5, GENES)
    change = np.where(rng.random(GENES) < null, 0.0, rng.normal(0, 0.7, GENES))
    programs = rng.normal(0, shared / 3**0.5, (3, GENES))
    donor = rng.normal(size=(donors, 3)) @ programs + rng.normal(0, 0.2, (donors, GENES))
    theta, rows, group, block = np.exp(rng.normal(np.log(2), 0.5, GENES)), [], [], []
    for d in range(donors):
        for g in (0, 1) if paired else (d % 2,):
            log_rate = base + donor[d] + g * change + rng.normal(0, 0.15 * paired, GENES)
            library = 1000 * np.exp(rng.normal(0, 0.4, int(100 * np.exp(rng.normal(0, 0.4)))))
            mean = library[:, None] * np.exp(log_rate) / np.exp(log_rate).sum()
            rows.append(rng.poisson(mean * rng.gamma(theta, 1 / theta, mean.shape)).sum(0))
            group.append(g), block.append(d)
    x, sides = np.array(rows), np.array(group)
    names = [str(i) for i in range(GENES)]
    unit, blocks = np.arange(len(x)), np.array(block) if paired else None
    effect = fold_changes(x, sides, names, unit=unit, block=blocks)
    logged = np.log2((x + 0.5) / x.sum(1, keepdims=True))
    test = stats.ttest_rel if paired else stats.ttest_ind
    p = test(logged[sides == 1], logged[sides == 0], **({} if paired else {"equal_var": False}))
    return effect, change / np.log(2), _rejected(p.pvalue)


def halves_cases(side: int, sets: int) -> Iterator[Case]:
    """Random halves of real CD4 T cells, with a story fitted to all of them."""
    data = read_h5ad(Path(os.environ["PGM_EXPR_DATA"]) / "kang_ifnb_2k.h5ad")
    data = data[(data.obs.cell_type == "CD4 T cells") & (data.obs.condition == "ctrl")].copy()
    run = pgm_expr.fit(data, story="vae", n_top_genes=GENES, min_cells=15, progress=False)
    genes, relative = run.notes["genes"], run.normalized_expression(data)
    x = sparse.csr_array(data[:, genes].X)
    for seed in range(sets):
        at = np.random.default_rng(seed).permutation(x.shape[0])[: 2 * side]
        group = np.arange(len(at)) % 2
        effect = fold_changes(x[at], group, genes, relative=relative[at])
        logged = np.log1p(x[at].toarray() / x[at].sum(1)[:, None] * 1e4)
        p = stats.mannwhitneyu(logged[group == 1], logged[group == 0], axis=0).pvalue
        yield effect, np.zeros(len(genes)), _rejected(p)


def coin_flip_case(seed: int) -> Case:
    """A coin flip given to cvae as batch of real CD4 T cells."""
    data = read_h5ad(Path(os.environ["PGM_EXPR_DATA"]) / "kang_ifnb_2k.h5ad")
    data = data[(data.obs.cell_type == "CD4 T cells") & (data.obs.condition == "ctrl")].copy()
    data.obs["flip"] = np.random.default_rng(seed).integers(2, size=data.n_obs).astype(str)
    options = {"n_top_genes": 300, "min_cells": 30, "epochs": 100}
    run = pgm_expr.fit(data, story="cvae", batch_key="flip", progress=False, **options)
    x = sparse.csr_array(data[:, run.notes["genes"]].X)
    group = data.obs["flip"].to_numpy().astype(int)
    relative = run.normalized_expression(data)
    effect = fold_changes(x, group, run.notes["genes"], relative=relative)
    return effect, np.zeros(len(effect.genes)), np.zeros(len(effect.genes), bool)


def _rejected(p: np.ndarray) -> np.ndarray:
    return stats.false_discovery_control(np.nan_to_num(p, nan=1.0)) <= 0.05


def row(case: Case) -> dict[str, float]:
    """Figures of one data set."""
    effect, truth, rival = case
    seen = np.isfinite(effect.mean)
    called, real, (low, high) = effect.called(), truth != 0, effect.interval()
    found = {
        "any": float(called.any()),
        "fdr": (called & ~real).sum() / max(called.sum(), 1),
        "coverage": ((low <= truth) & (truth <= high))[seen].mean(),
        "fdr_rival": (rival & ~real).sum() / max(rival.sum(), 1),
    }
    if real.any():
        sure = seen & (effect.raw_se < 0.7)
        found["slope"] = np.polyfit(effect.mean[seen], truth[seen], 1)[0]
        found["slope_raw"] = np.polyfit(truth[sure], effect.raw[sure], 1)[0]
        found["power"] = (called & real).sum() / real.sum()
        found["power_rival"] = (rival & real).sum() / real.sum()
    return found


def main(out: Path, only: str, scale: float) -> None:
    designs: dict[str, tuple[int, Callable[[int], Case]]] = {}
    for story in ("vae", "cvae"):
        for side, fitted in ((30, 600), (300, 600)):
            for null in (0.7, 1.0):
                name = f"{story}, {side} cells of {fitted}, {1 - null:.0%} changed"
                make = (story, side, fitted, null)
                designs[name] = (20, lambda seed, m=make: cells_case(*m, seed))
    for paired in (False, True):
        for null in (0.7, 1.0):
            name = f"8 donors{', paired' * paired}, {1 - null:.0%} changed"
            designs[name] = (
                20 if null < 1 else 100,
                lambda s, p=paired, n=null: donors_case(p, n, s),
            )
    if "PGM_EXPR_DATA" in os.environ:
        for side in (20, 100, 220):
            cases = halves_cases(side, int(100 * scale))
            designs[f"halves of CD4 T cells, {side} a side"] = (100, lambda _, c=cases: next(c))
        designs["coin flip as batch of cvae, 447 CD4 T cells"] = (40, coin_flip_case)
    rows = []
    for name, (sets, case) in designs.items():
        if only not in name:
            continue
        figures = [row(case(seed)) for seed in range(max(1, int(sets * scale)))]
        mean = {k: round(float(np.mean([f[k] for f in figures])), 3) for k in figures[0]}
        rows.append({"design": name, "sets": len(figures)} | mean)
        print(rows[-1], flush=True)
    found = {
        "benchmark": "differential_expression",
        "command": "python benchmarks/differential_expression.py",
        "version": version("pgm_expr"),
        "columns": {k: v for k, v in COLUMNS.items() if any(k in r for r in rows)},
        "rows": rows,
    }
    out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--only", default="", help="Designs whose name holds this.")
    parser.add_argument("--scale", type=float, default=1.0, help="Share of the data sets.")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main(arguments.out, arguments.only, arguments.scale)
