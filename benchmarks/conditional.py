"""Are states independent of the batch, is the type kept, and are draws per condition realistic?

For each data set and split seed, stories are fitted with the same split and settings:

    batch probe    balanced accuracy of a probe of the batch within each type, beside the same
                   probe of batches permuted within the type, and p: from draws z ~ q(z | x), and
                   from posterior means; for `vae`, which ignores the batch, and for the others
    type probe     macro-F1 of the type from z, minus that of `vae`
    ELBO, IWAE     of test cells, nats per cell
    draws          per condition: median |log ratio| of mean and variance and mean absolute error
                   of the zero rate against the test cells of the condition, each minus the same
                   of as many training cells (the real/real floor, averaged over 20 subsets)

    PGM_EXPR_DATA=folder python benchmarks/conditional.py [--data mixology kang] [--splits 0 1 2]
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

import pgm_expr
from pgm_expr import evaluation, predict
from pgm_expr.data import sweep
from pgm_expr.inference import latent_use

SETS = {
    "mixology": dict(
        name="sc_mixology_celseq2_dropseq", batch="protocol", type="cell_line", genes=2000
    ),
    "kang": dict(name="kang_ifnb_2k", batch="condition", type="cell_type", genes=2000),
    "gbm": dict(
        name="glioblastoma_panobinostat_zhao300g", batch="patient_id", type="condition", genes=None
    ),
}
STORIES = ("vae", "cvae", "conditional_prior")
FIGURES = ("mean_log_ratio", "variance_log_ratio", "zero_rate_mae")


def batches(run, part):
    cells = run.table.cells.to(run.device)
    return predict.withheld(sweep(cells, getattr(run.table.split, part), 512))


def states(run, part):
    return latent_use(run.bound(), batches(run, part)).loc.cpu().numpy()


def columns(run, part, name):
    return run.table.cells.columns[name][getattr(run.table.split, part)]


def drawn(run, part):
    return predict.draw_states(run.model, run.guide, batches(run, part), 1)[0].cpu().numpy()


def probes(run):
    """The batch within types from draws of z and from means, and the type from means."""
    b, b_test = (columns(run, part, "batch") for part in ("development", "test"))
    y, y_test = (columns(run, part, "label") for part in ("development", "test"))
    leaks = []
    for source in (drawn, states):
        z, held_out = source(run, "development"), source(run, "test")
        found = evaluation.leakage(z, b, held_out, b_test, train_groups=y, test_groups=y_test)
        leaks.append(f"{found.accuracy:.3f} (chance {found.chance:.3f}, p {found.p:.3f})")
    return leaks, evaluation.probe(z, y, held_out, y_test)["macro_f1"]


def draw_figures(run, source):
    """Figures of draws minus the real/real floor, by condition, of at least 100 test cells."""
    x, real = run.table.cells.counts, run.table.split
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if source == "prior":
            drawn = predict.draw_prior(run.model, batches(run, "test"))
        else:
            drawn = predict.draw_posterior(run.model, run.guide, batches(run, "test"))
    drawn, gaps = drawn.cpu().numpy(), []
    test, known = columns(run, "test", "batch"), columns(run, "development", "batch")
    for level in np.unique(test):
        here, there = real.test[test == level], real.development[known == level]
        if min(len(here), len(there)) < 30:
            continue
        here = here[: len(there)]
        found = evaluation.compare_counts(
            drawn[test == level][: len(here)], x[here].toarray(), x[there].toarray(), minimum=20
        )
        floors = [key.replace("_mae", "") + "_floor" for key in FIGURES]
        gaps.append([found[key] - found[f] for key, f in zip(FIGURES, floors, strict=True)])
    return np.mean(gaps, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["mixology", "kang"], choices=SETS)
    parser.add_argument("--splits", nargs="+", type=int, default=[0, 1, 2])
    for name in (args := parser.parse_args()).data:
        spec, base = SETS[name], None
        for split in args.splits:
            for story in STORIES:
                run = pgm_expr.fit(
                    spec["name"],
                    story,
                    batch_key=spec["batch"],
                    labels_key=spec["type"],
                    min_cells=3,
                    n_top_genes=spec["genes"],
                    split_seed=split,
                    progress=False,
                )
                (from_draws, from_means), f1 = probes(run)
                base = f1 if story == "vae" else base
                elbo = evaluation.elbo(run.model, run.guide, batches(run, "test")).mean()
                iwae = evaluation.iwae(run.model, run.guide, batches(run, "test"), (500,))[
                    500
                ].mean()
                said = (
                    f"{name} split {split} {story:18s} batch from draws {from_draws}, from means "
                    f"{from_means}; type {f1:.3f} ({f1 - base:+.3f}); ELBO {elbo:.2f}, IWAE-500 "
                    f"{iwae:.2f}"
                )
                print(said, flush=True)
                for source in ("prior", "posterior"):
                    gaps = draw_figures(run, source)
                    words = ", ".join(f"{k} {g:+.4f}" for k, g in zip(FIGURES, gaps, strict=True))
                    print(f"    draws from the {source} minus floor: {words}", flush=True)


if __name__ == "__main__":
    main()
