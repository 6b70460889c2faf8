"""Do the intervals of counterfactuals hold the truth, and are unanswerable ones refused?

Cells of 4 types in 2 conditions are simulated, the condition following the type with a given
confounding (0 randomised, 1 one condition per type). Half of the genes change in the second
condition, or none. Conditional stories are fitted to the cells, and `counterfactual` estimates the
log2 fold changes of all cells set to the second condition, or (odd data sets) of the cells of the
first:

    refused    data sets whose condition is refused, without support
    coverage   95% intervals that hold the true value, mean over genes and answered data sets
    error      root mean squared error of the posterior mean, log2
    story      that of the decoder with states held
    mean shift that of cells of the condition over the others, unadjusted
    shrunken   coverage and error with `shrinkage=True`

Cells are compared within types (`labels_key`), or within clusters of states, aligned across
conditions, where the fit has no labels.

    python benchmarks/conditions.py [--sets 20] [--cells 900] [--genes 300] [--epochs 60]
                                    [--fits FOLDER] [--out benchmarks/results/conditions.json]

With `--fits`, runs are kept in a folder and read again.
"""

from __future__ import annotations

import argparse
import json
import warnings
from itertools import product
from pathlib import Path

import numpy as np

import pgm_expr
from pgm_expr.simulate import simulate

STORIES = ("cvae", "conditional_prior")
CONDITION = {"condition": "condition1"}
COLUMNS = {
    "strata": "strata",
    "story": "story",
    "confounding": "confounding",
    "effects": "effects",
    "sets": "data sets",
    "refused": "refused",
    "coverage": "coverage",
    "error": "error",
    "from_story": "error, story",
    "mean_shift": "error, mean shift",
    "coverage_shrunken": "coverage, shrunken",
    "error_shrunken": "error, shrunken",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=20)
    parser.add_argument("--cells", type=int, default=900)
    parser.add_argument("--genes", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--fits", type=Path, metavar="FOLDER", help="where runs are kept")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where figures are kept, as JSON")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    worlds = product((0.0, 0.5, 0.8, 1.0), ("none", "half of genes"), STORIES)
    rows = [row for world in worlds for row in measure(*world, args)]
    rows.sort(key=lambda row: row["strata"], reverse=True)
    if args.out:
        sizes = " ".join(f"--{n} {getattr(args, n)}" for n in ("sets", "cells", "genes", "epochs"))
        args.out.write_text(json.dumps(results(rows, sizes), indent=2) + "\n")


def results(rows, sizes):
    """Rows with the command and version that they are of."""
    return {
        "benchmark": "conditions",
        "command": f"python benchmarks/conditions.py {sizes}",
        "version": pgm_expr.__version__,
        "columns": COLUMNS,
        "rows": rows,
    }


def measure(confounding, effects, story, args):
    """A row for each kind of strata: figures over all data sets of one world and story."""
    null = 1.0 if effects == "none" else 0.5
    found = {"types": [], "states": []}
    for seed in range(args.sets):
        options = dict(types=4, conditions=2, confounding=confounding, null=null)
        truth = simulate(args.cells, args.genes, seed=seed, **options)
        name = f"{story}_{confounding}_{null}_{seed}"
        run = fitted(truth.to_anndata(), story, args.fits and args.fits / name, args)
        for strata, figures in found.items():
            figures.append(answer(truth, run, seed, strata))
    world = {"story": story, "confounding": confounding, "effects": effects}
    rows = [{"strata": strata, **world, **summary(found[strata])} for strata in found]
    for row in rows:
        print(*(f"{key} {value}" for key, value in row.items()), sep="  ", flush=True)
    return rows


def fitted(adata, story, folder, args):
    """The run of a data set, from its folder where it is there."""
    if folder and (folder / "story.json").exists():
        run = pgm_expr.load(folder)
        run.training_table(adata)
        return run
    keys = dict(batch_key="condition", labels_key="type", progress=False)
    sizes = dict(latent=5, hidden=64, epochs=args.epochs, learning_rate=5e-3)
    run = pgm_expr.fit(adata, story, **keys, **sizes)
    if folder:
        run.save(folder)
    return run


def answer(truth, run, seed, strata):
    """Figures of one data set; None where the condition is refused."""
    adata = truth.to_anndata()
    cells = np.flatnonzero(truth.condition == 0) if seed % 2 else np.arange(adata.n_obs)
    if strata == "states":
        forget_labels(run)
    try:
        plain, shrunken = (
            run.counterfactual(adata[cells].copy(), condition=CONDITION, shrinkage=shrinkage)
            for shrinkage in (False, True)
        )
    except ValueError:
        return None
    same = {"library": 1.0}
    true = truth.log_fold_change({"condition": 1, **same}, same, cells=cells) / np.log(2)
    rivals = {"from_story": plain.rivals["story"][0], "mean_shift": plain.rivals["mean_shift"][0]}
    return {
        "coverage": covered(plain, true),
        "error": rmse(plain.mean[0], true),
        **{name: rmse(values, true) for name, values in rivals.items()},
        "coverage_shrunken": covered(shrunken, true),
        "error_shrunken": rmse(shrunken.mean[0], true),
    }


def forget_labels(run):
    """The same run as if it had been fitted without labels, which these stories do not use."""
    fields = run.notes["encoding"]["fields"]
    run.notes["encoding"]["fields"] = [f for f in fields if f["kind"] != "label"]
    run.table.cells.columns.pop("label", None)


def covered(found, true):
    low, high = found.interval()[:, 0]
    return float(((low <= true) & (true <= high)).mean())


def rmse(values, true):
    return float(np.sqrt(np.mean((values - true) ** 2)))


def summary(figures):
    """Number of data sets and of refusals, means of the rest over the answered ones."""
    answered = [each for each in figures if each]
    counts = {"sets": len(figures), "refused": len(figures) - len(answered)}
    means = {
        key: round(float(np.mean([e[key] for e in answered])), 3) for key in (answered or [{}])[0]
    }
    return counts | means


if __name__ == "__main__":
    main()
