"""Which generator's cells are the hardest to distinguish from real ones? One table per data set.

A story is fitted. Each generator is trained on its posteriors of cells outside the test set, and
draws cells with the labels and batches of the held-out cells (libraries are generated). Rows to
compare with: draws from the prior of the story, from its posteriors of the held-out cells (the
limit set by decoder and guide), Gaussians of log values and negative binomials by label, and real
cells of the fit (the floor). `values` among the generators is diffusion of log values without a
story. Figures are those of `judge_generated` on 50 components of log-normalised values, then
seconds of training and for 1,000 cells.

    PGM_EXPR_DATA=folder python benchmarks/generators.py [--data pbmc3k mixology ...]
        [--seeds 0 1 2] [--generators diffusion matching] [--steps 4000] [--on validation]
        [--set latent=20 ...] [--out rows.csv]

`pbmc3k-conditional` is pbmc3k with a story whose decoder is conditioned on the type.

`--on validation` judges on validation cells, for model selection. Labels with at least 100
held-out cells are also judged separately (`auc by label`).
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
from pgm_expr import evaluation, predict
from pgm_expr.data import load_dataset, sweep
from pgm_expr.diffusion import ValueDiffusion
from pgm_expr.diffusion.values import rounded
from pgm_expr.evaluation.counts.generated import Labelled, judge_generated
from pgm_expr.evaluation.counts.two_sample import two_sample
from pgm_expr.evaluation.latent.probes import log_normalise
from pgm_expr.inference import seeded
from pgm_expr.runs.table import prepare
from pgm_expr.tasks.generate import draw_given, train_generator

SHOWN = ["auc", "energy", "mmd", "correlation", "mean", "variance", "zero", "total_variance"]
SHOWN += ["de", "f1", "nearest"]
LEAST = 100  # held-out cells of a label that is judged separately


def mixology():
    """sc_mixology in the 2,000 most variable genes of the training cells of split 0."""
    adata = load_dataset("sc_mixology_celseq2_dropseq")
    table = prepare(adata, dict(batch_key="protocol"), min_cells=3, n_top_genes=2000)
    return adata[:, table.cells.genes].copy()


DATA = {
    "pbmc3k": (cells, dict(labels_key="cell_type")),
    "pbmc3k-conditional": (
        cells,
        dict(story="cvae", labels_key="cell_type", categorical_covariate_keys=["cell_type"]),
    ),
    "mixology": (  # deep counts need more than 10 dimensions; selected by --on validation
        mixology,
        dict(story="cvae", labels_key="cell_line", batch_key="protocol", likelihood="nb-cell")
        | dict(latent=30, weight_decay=0.1),
    ),
    "embedded": (lambda: load_dataset("pbmc68k_reduced"), dict(labels_key="bulk_labels")),
}


class Setting:
    """A fitted run, the cells to judge on, and the cells that generators are trained on."""

    def __init__(self, adata, options, seed, on):
        self.run = pgm_expr.fit(adata, seed=seed, split_seed=seed, progress=False, **options)
        table = self.run.table
        self.cells, self.at = table.cells, getattr(table.split, on)
        self.known_at = table.split.train if on == "validation" else table.split.development
        self.held_out, self.known = self.labelled(self.at), self.labelled(self.known_at)
        rows = self.cells.rows(self.at)
        self.given = {k: v for k, v in rows.items() if k not in ("x", "library", "index")}

    def labelled(self, at):
        return Labelled(sparse.csr_array(self.cells.counts[at]), self.cells.columns["label"][at])

    def as_held_out(self, x):
        return Labelled(sparse.csr_array(np.asarray(x)), self.held_out.labels)

    def batches(self):
        return predict.withheld(sweep(self.cells, self.at, 64))

    def baselines(self, seed):
        """Counts of each baseline by name."""
        run = self.run
        with seeded(seed):
            yield "prior", predict.draw_prior(run.model, self.batches())
            yield "posterior", predict.draw_posterior(run.model, run.guide, self.batches())
            yield "Gaussian", gaussian(self.known, self.held_out, self.libraries())
            yield "NB", self.negative_binomial()

    def libraries(self):
        """Libraries of cells of the fit with the labels of the held-out ones, (n,)."""
        known = np.asarray(self.known.counts.sum(1)).ravel()
        rng = np.random.default_rng(0)
        return np.array([rng.choice(known[self.known.labels == y]) for y in self.held_out.labels])

    def negative_binomial(self):
        x, y = torch.from_numpy(self.known.counts.toarray()).float(), self.known.labels
        fitted = evaluation.fit_baseline(x, torch.as_tensor(y), y.max() + 1)
        library = torch.as_tensor(self.libraries(), dtype=torch.float32).unsqueeze(-1)
        return fitted.predict(library, torch.as_tensor(self.held_out.labels)).sample()


def gaussian(known, held_out, library):
    """Normals of log(1 + 1e4 x / library), full covariance by label, rounded to counts."""
    values = log_normalise(known.counts).toarray()
    rng, drawn = np.random.default_rng(0), np.zeros(held_out.counts.shape)
    for y in np.unique(held_out.labels):
        fit, at = values[known.labels == y], np.flatnonzero(held_out.labels == y)
        noise = rng.standard_normal((len(at), len(fit))) / np.sqrt(max(len(fit) - 1, 1))
        drawn[at] = fit.mean(0) + noise @ (fit - fit.mean(0))
    return np.rint(np.expm1(np.clip(drawn, 0, 12)) * library[:, None] / 1e4)


def of_values(setting, steps, seed):
    """Diffusion of log values by label, rounded to counts, without a story."""
    x = torch.from_numpy(setting.known.counts.toarray()).float()
    given, wanted = (
        setting.run.encoding.indicators({"label": torch.as_tensor(side.labels)})
        for side in (setting.known, setting.held_out)
    )
    made = ValueDiffusion(x.shape[1], given.shape[1], hidden=256)
    budget = {} if steps is None else {"steps": steps}
    for _ in made.fit(x, given, seed=seed, **budget):
        pass
    library = torch.as_tensor(setting.libraries(), dtype=torch.float32).unsqueeze(-1)
    with seeded(seed):
        return rounded(made.sample(len(wanted), wanted), library)


def by_label(drawn, held_out, known):
    """AUC of each label with enough held-out cells, as text."""
    found = []
    for y, n in zip(*np.unique(held_out.labels, return_counts=True), strict=True):
        sides = [side.counts[side.labels == y] for side in (drawn, held_out, known)]
        if n >= LEAST and sides[2].shape[0] >= 2 * LEAST:
            result = two_sample(*sides, components=50)
            found.append(f"{y}: {result.auc:.3f} ({result.auc_floor:.3f})")
    return ", ".join(found)


def rows(setting, names, steps, seed):
    """One row per source of cells."""
    for name, x in setting.baselines(seed):
        yield {"source": name, **judged(setting, x)}
    for name in names:
        start = time.perf_counter()
        if name == "values":
            yield {"source": name, **judged(setting, of_values(setting, steps, seed))}
            continue
        generator = train_generator(
            setting.run, name, steps=steps, seed=seed, among=setting.known_at
        )
        trained = time.perf_counter()
        x, _ = draw_given(setting.run, generator, len(setting.at), setting.given, seed=seed + 100)
        seconds = {"training": trained - start}
        seconds["1,000 cells"] = 1000 / len(setting.at) * (time.perf_counter() - trained)
        yield {"source": name, **judged(setting, x), **seconds}


def judged(setting, x):
    drawn = setting.as_held_out(x)
    found = judge_generated(drawn, setting.held_out, setting.known)
    return found | {"auc by label": by_label(drawn, setting.held_out, setting.known)}


def floor(found):
    """The row of real cells, from the floors of another row."""
    return {"source": "real"} | {n: found[f"{n}_floor"] for n in SHOWN if f"{n}_floor" in found}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["pbmc3k", "mixology"], choices=DATA)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--generators", nargs="*", default=["diffusion", "matching"])
    parser.add_argument("--steps", type=int, help="of training, instead of the defaults")
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
            setting = Setting(adata, options | changed, seed, args.on)
            if args.sleep:
                setting.run.sleep(args.sleep)
            for row in rows(setting, args.generators, args.steps, seed):
                if row["source"] == "prior":
                    kept.append({"data": data, "seed": seed, **floor(row)})
                kept.append({"data": data, "seed": seed, **row})
                shown = " ".join(f"{n} {row[n]:.3f}" for n in SHOWN if n in row)
                print(
                    f"{data} {seed} {row['source']:10s} {shown} {row['auc by label']}", flush=True
                )
                if args.out:
                    pd.DataFrame(kept).to_csv(args.out, index=False)
    table = pd.DataFrame(kept)
    shown = [n for n in (*SHOWN, "training", "1,000 cells") if n in table]
    print(table.groupby(["data", "source"], sort=False)[shown].mean().round(3).to_string())


def as_typed(word):
    """A number where the text is one."""
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            pass
    return word


if __name__ == "__main__":
    main()
