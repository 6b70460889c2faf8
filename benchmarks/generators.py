"""Which generator's cells are the hardest to tell from real ones? One table a data set.

A story is fitted, each generator learns its posteriors of cells outside the test set, and draws
cells with the labels and batches of the held-out cells (libraries are its own). Rows beside them:
draws from the story's prior, from its posteriors of the held-out cells themselves (what decoder
and guide can do), Gaussians of log values and negative binomials by label, and real cells of the
fit (the floor). `values` among the generators is diffusion of log values, without any story.
Figures are those of `evaluation.judge_generated`, 50 components of log-normalised values, then
seconds of training and for 1,000 cells.

    PGM_EXPR_DATA=folder python benchmarks/generators.py [--data pbmc3k mixology ...]
        [--seeds 0 1 2] [--generators diffusion matching] [--steps 4000] [--on validation]
        [--set latent=20 ...] [--out rows.csv]

`pbmc3k-told` is pbmc3k by a story whose decoder is told the type.

`--on validation` judges on validation cells, to choose by. Labels of 100 held-out cells or more
are judged by themselves too (`auc by label`).
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import pandas as pd
import torch
from few_labels import cells
from scipy import sparse

import pgm_expr
from pgm_expr import evaluation
from pgm_expr.data import load_dataset, sweep
from pgm_expr.diffusion import ValueDiffusion
from pgm_expr.diffusion.values import rounded
from pgm_expr.evaluation.counts.generated import Labelled, judge_generated
from pgm_expr.evaluation.counts.two_sample import two_sample
from pgm_expr.inference import seeded
from pgm_expr.runs.table import prepare
from pgm_expr.tasks.generate import draw_given, train_generator

SHOWN = ["auc", "energy", "mmd", "correlation", "mean", "variance", "zero", "total_variance"]
SHOWN += ["de", "f1", "nearest"]
LEAST = 100  # held-out cells of a label that is judged by itself


def mixology():
    """sc_mixology in the 2,000 genes that vary most over the training cells of split 0."""
    adata = load_dataset("sc_mixology_celseq2_dropseq")
    table = prepare(adata, dict(batch_key="protocol"), min_cells=3, n_top_genes=2000)
    return adata[:, table.cells.genes].copy()


DATA = {
    "pbmc3k": (cells, dict(labels_key="cell_type")),
    "pbmc3k-told": (
        cells,
        dict(story="cvae", labels_key="cell_type", categorical_covariate_keys=["cell_type"]),
    ),
    "mixology": (  # deep counts, 10 dimensions leave much out; chosen by --on validation, seed 0
        mixology,
        dict(story="cvae", labels_key="cell_line", batch_key="protocol", likelihood="nb-cell")
        | dict(latent=30, weight_decay=0.1),
    ),
    "embedded": (lambda: load_dataset("pbmc68k_reduced"), dict(labels_key="bulk_labels")),
}


class Bench:
    """A fitted run, the cells it is judged on, and those that generators may learn from."""

    def __init__(self, adata, options, seed, on):
        self.run = pgm_expr.fit(adata, seed=seed, split_seed=seed, progress=False, **options)
        table = self.run.table
        self.cells, self.at = table.cells, getattr(table.split, on)
        self.learnt = table.split.train if on == "validation" else table.split.development
        self.held_out, self.known = self.labelled(self.at), self.labelled(self.learnt)
        rows = self.cells.rows(self.at)
        self.told = {k: v for k, v in rows.items() if k not in ("x", "library", "index")}

    def labelled(self, at):
        return Labelled(sparse.csr_array(self.cells.counts[at]), self.cells.columns["label"][at])

    def as_held_out(self, x):
        return Labelled(sparse.csr_array(np.asarray(x)), self.held_out.labels)

    def batches(self):
        return evaluation.withheld(sweep(self.cells, self.at, 64))

    def baselines(self, seed):
        """Counts by name, of what is no generator."""
        run = self.run
        with seeded(seed):
            yield "prior", evaluation.draw_prior(run.model, self.batches())
            yield "posterior", evaluation.draw_posterior(run.model, run.guide, self.batches())
            yield "Gaussian", gaussian(self.known, self.held_out, self.libraries())
            yield "NB", self.negative_binomial()

    def libraries(self):
        """Of cells of the fit with the labels of the held-out ones, (n,)."""
        known = np.asarray(self.known.counts.sum(1)).ravel()
        rng = np.random.default_rng(0)
        return np.array([rng.choice(known[self.known.labels == y]) for y in self.held_out.labels])

    def negative_binomial(self):
        x, y = torch.from_numpy(self.known.counts.toarray()).float(), self.known.labels
        fitted = evaluation.fit_baseline(x, torch.as_tensor(y), y.max() + 1)
        library = torch.as_tensor(self.libraries(), dtype=torch.float32).unsqueeze(-1)
        return fitted.predict(library, torch.as_tensor(self.held_out.labels)).sample()


def gaussian(known, held_out, library):
    """Normals of log(1 + 1e4 x / library), full covariance by label, and counts to the nearest."""
    values = evaluation.probes.log_normalise(known.counts).toarray()
    rng, drawn = np.random.default_rng(0), np.zeros(held_out.counts.shape)
    for y in np.unique(held_out.labels):
        own, at = values[known.labels == y], np.flatnonzero(held_out.labels == y)
        noise = rng.standard_normal((len(at), len(own))) / np.sqrt(max(len(own) - 1, 1))
        drawn[at] = own.mean(0) + noise @ (own - own.mean(0))
    return np.rint(np.expm1(np.clip(drawn, 0, 12)) * library[:, None] / 1e4)


def of_values(bench, steps, seed):
    """Diffusion of log values by label, and counts to the nearest: no story at all."""
    x = torch.from_numpy(bench.known.counts.toarray()).float()
    given, asked = (
        bench.run.encoding.indicators({"label": torch.as_tensor(side.labels)})
        for side in (bench.known, bench.held_out)
    )
    made = ValueDiffusion(x.shape[1], given.shape[1], hidden=256)
    budget = {} if steps is None else {"steps": steps}
    for _ in made.fit(x, given, seed=seed, **budget):
        pass
    library = torch.as_tensor(bench.libraries(), dtype=torch.float32).unsqueeze(-1)
    with seeded(seed):
        return rounded(made.sample(len(asked), asked), library)


def by_label(drawn, held_out, known):
    """AUC of each label with enough held-out cells, as words."""
    found = []
    for y, n in zip(*np.unique(held_out.labels, return_counts=True), strict=True):
        sides = [side.counts[side.labels == y] for side in (drawn, held_out, known)]
        if n >= LEAST and sides[2].shape[0] >= 2 * LEAST:
            told = two_sample(*sides, components=50)
            found.append(f"{y}: {told.auc:.3f} ({told.auc_floor:.3f})")
    return ", ".join(found)


def rows(bench, names, steps, seed):
    """One row a source of cells."""
    for name, x in bench.baselines(seed):
        yield {"source": name, **judged(bench, x)}
    for name in names:
        start = time.perf_counter()
        if name == "values":
            yield {"source": name, **judged(bench, of_values(bench, steps, seed))}
            continue
        learnt = train_generator(bench.run, name, steps=steps, seed=seed, among=bench.learnt)
        trained = time.perf_counter()
        x, _ = draw_given(bench.run, learnt, len(bench.at), bench.told, seed=seed + 100)
        seconds = {"training": trained - start}
        seconds["1,000 cells"] = 1000 / len(bench.at) * (time.perf_counter() - trained)
        yield {"source": name, **judged(bench, x), **seconds}


def judged(bench, x):
    drawn = bench.as_held_out(x)
    found = judge_generated(drawn, bench.held_out, bench.known)
    return found | {"auc by label": by_label(drawn, bench.held_out, bench.known)}


def floor(found):
    """The row of real cells, from the floors of another."""
    return {"source": "real"} | {n: found[f"{n}_floor"] for n in SHOWN if f"{n}_floor" in found}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["pbmc3k", "mixology"], choices=DATA)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--generators", nargs="*", default=["diffusion", "matching"])
    parser.add_argument("--steps", type=int, help="of training, in the place of each one's own")
    parser.add_argument("--on", default="test", choices=["test", "validation"])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--sleep", type=int, default=0)
    parser.add_argument("--out", help="a .csv of all rows")
    args, kept = parser.parse_args(), []
    warnings.simplefilter("ignore")
    changed = {n: as_typed(v) for n, v in (each.split("=", 1) for each in args.set)}
    for data in args.data:
        load, options = DATA[data]
        adata = load()
        for seed in args.seeds:
            bench = Bench(adata, options | changed, seed, args.on)
            if args.sleep:
                bench.run.sleep(args.sleep)
            for row in rows(bench, args.generators, args.steps, seed):
                if row["source"] == "prior":
                    kept.append({"data": data, "seed": seed, **floor(row)})
                kept.append({"data": data, "seed": seed, **row})
                told = " ".join(f"{n} {row[n]:.3f}" for n in SHOWN if n in row)
                print(
                    f"{data} {seed} {row['source']:10s} {told} {row['auc by label']}", flush=True
                )
                if args.out:
                    pd.DataFrame(kept).to_csv(args.out, index=False)
    table = pd.DataFrame(kept)
    shown = [n for n in (*SHOWN, "training", "1,000 cells") if n in table]
    print(table.groupby(["data", "source"], sort=False)[shown].mean().round(3).to_string())


def as_typed(word):
    """A number where it reads as one."""
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            pass
    return word


if __name__ == "__main__":
    main()
