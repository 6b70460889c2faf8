"""Is the amortised guide of every story calibrated? Simulation-based calibration, story by story.

Each story is fitted with its defaults to simulated cells that have types, two batches, two
conditions, perturbations and a time. States and counts are then simulated from the fitted story,
for cells with the libraries and metadata of held-out ones, and the guide infers the states:

    pooled   max over central intervals of |coverage - nominal|, all latent dimensions together
    one      the same for the worst dimension
    inside   coverage of the central 50%: below 0.5 posteriors are too narrow, above too wide
    flagged  quantities whose ranks are not uniform (a correct guide has one in 5% of runs)

    python benchmarks/sbc.py [--stories vae cvae ...] [--cells 10000] [--epochs 60] [--sleep 4000]

With `--sleep` every guide is then recalibrated on simulated cells (`Run.sleep`) and measured
again; `bound` is the change of the ELBO of held-out cells, in nats per cell.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np

import pgm_expr
from pgm_expr import inference, predict, zoo
from pgm_expr.data import sweep
from pgm_expr.evaluation.guide import sbc
from pgm_expr.simulate import simulate

GENES = 100
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
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    truth = simulate(
        args.cells, GENES, seed=0, types=4, batches=2, conditions=2, perturbations=3, time=True
    )
    adata = truth.to_anndata()
    for story in args.stories:
        run = pgm_expr.fit(
            adata, story, epochs=args.epochs, progress=False, **arguments(story, adata.var_names)
        )
        before = measure(story, run)
        if args.sleep:
            run.sleep(args.sleep)
            measure(f"{story}, slept", run, before)


def measure(name, run, before=None):
    """Print calibration on simulated cells; returns the bound of held-out cells."""
    test = run.table.split.test[:2000]
    batches = [*predict.withheld(sweep(run.table.cells, test, 200))]
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
    return bound


if __name__ == "__main__":
    main()
