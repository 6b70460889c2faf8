"""Is the amortised guide of every story calibrated? Simulation-based calibration, story by story.

Each story is fitted with its defaults to simulated cells that have types, two batches, two
conditions, perturbations and a time. States and counts are then simulated from the fitted story,
for cells with the libraries and metadata of held-out ones, and the guide infers the states:

    pooled   max over central intervals of |coverage - nominal|, all latent dimensions together
    one      the same for the worst dimension
    inside   coverage of the central 50%: below 0.5 posteriors are too narrow, above too wide
    flagged  quantities whose ranks are not uniform (a correct guide has one in 5% of runs)

    python benchmarks/sbc.py [--stories vae cvae ...] [--cells 10000] [--epochs 60] [--sleep 4000]
                             [--out benchmarks/results/sbc.json]

With `--sleep` every guide is then recalibrated on simulated cells (`Run.sleep`) and measured
again; `bound` is the change of the ELBO of held-out cells, in nats per cell.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np

import pgm_expr
from pgm_expr import inference, zoo
from pgm_expr.data import sweep
from pgm_expr.evaluation.guide import sbc
from pgm_expr.simulate import simulate

GENES = 100
OFF = 0.03  # error of coverage from which a site counts as miscalibrated
COLUMNS = {
    "story": "story",
    "off": "sites with an error above 0.03",
    "pooled": "error, pooled",
    "one": "error, worst dimension",
    "worst": "its site",
    "inside": "central 50% covers",
    "pooled_slept": "error, pooled, after sleep",
    "one_slept": "error, worst dimension, after sleep",
    "inside_slept": "central 50% covers, after sleep",
}
ARGUMENTS = {
    "cvae": dict(batch_key="batch", categorical_covariate_keys=["condition"]),
    "conditional_prior": dict(batch_key="batch", categorical_covariate_keys=["condition"]),
    "label": dict(labels_key="type"),
    "classify": dict(labels_key="type"),
    "regress": dict(target_key="time"),
    "hierarchical": dict(
        labels_key="type", batch_key="batch", categorical_covariate_keys=["condition"]
    ),
    "shift": dict(perturbation_key="perturbation", control="control"),
    "offset": dict(categorical_covariate_keys=["condition"]),
}


def arguments(story, genes):
    """Arguments of `fit` for a story; sets of ten consecutive genes for the ladder."""
    if story == "ladder":
        return dict(gene_sets={f"set{i}": list(genes[i : i + 10]) for i in range(0, GENES, 10)})
    return ARGUMENTS.get(story, {})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stories", nargs="+", default=[*zoo.STORIES], choices=zoo.STORIES)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--sleep", type=int, default=0, metavar="STEPS")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where figures are kept, as JSON")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    truth = simulate(
        args.cells, GENES, seed=0, types=4, batches=2, conditions=2, perturbations=3, time=True
    )
    adata = truth.to_anndata()
    rows = [row(story, adata, args) for story in args.stories]
    if args.out:
        args.out.parent.mkdir(exist_ok=True)
        args.out.write_text(json.dumps(results(rows, args), indent=2) + "\n")


def row(story, adata, args):
    """Fit and measure one story; what is kept of it."""
    given = arguments(story, adata.var_names)
    run = pgm_expr.fit(adata, story, epochs=args.epochs, progress=False, **given)
    sites, bound, found = measure(story, run)
    off = ", ".join(site for site, error in sites.items() if error > OFF)
    kept = {"story": story, "off": off, **found, "worst": max(sites, key=sites.get)}
    if args.sleep:
        run.sleep(args.sleep, progress=False)
        *_, slept = measure(f"{story}, slept", run, bound)
        kept |= {f"{name}_slept": value for name, value in slept.items()}
    return kept


def results(rows, args):
    """Rows with the command and version that they are of."""
    sizes = f"--cells {args.cells} --epochs {args.epochs} --sleep {args.sleep}"
    return {
        "benchmark": "sbc",
        "command": f"python benchmarks/sbc.py {sizes}",
        "version": pgm_expr.__version__,
        "columns": COLUMNS,
        "rows": rows,
    }


def measure(name, run, before=None):
    """Print calibration on simulated cells; returns errors by site, the bound, and figures."""
    test = run.table.split.test[:2000]
    batches = [*sweep(run.table.cells.withheld(), test, 200)]
    found = sbc.sbc(run.model, run.guide, batches)
    half = np.mean([each[4] for each in found.coverage.values()])
    sites = {}
    for quantity, each in found.coverage.items():
        gap, site = float(np.abs(each - sbc.LEVELS).max()), quantity.split("[")[0]
        sites[site] = max(gap, sites.get(site, 0.0))
    words = ", ".join(f"{site} {gap:.3f}" for site, gap in sites.items())
    bound = inference.score(run.bound(), batches)
    print(
        f"{name:25s} pooled {found.pooled_error:.3f}  one {found.error:.3f} ({words})  "
        f"inside {half:.3f}  flagged {len(found.flagged)} of {len(found.ranks)}"
        + ("" if before is None else f"  bound {bound - before:+.2f}"),
        flush=True,
    )
    figures = {"pooled": found.pooled_error, "one": found.error, "inside": half}
    return sites, bound, {name: round(float(value), 3) for name, value in figures.items()}


if __name__ == "__main__":
    main()
