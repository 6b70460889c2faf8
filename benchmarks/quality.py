"""Held-out likelihood of the vae story and of SCVI (scvi-tools), over seeds.

    .venv/bin/python benchmarks/quality.py                 pbmc68k_reduced, the vae alone
    PGM_EXPR_DATA=folder .venv/bin/python benchmarks/quality.py --peers   pbmc3k too, and SCVI

Both models get the same split, genes and cells, and are scored by the same IWAE at K = 500, in
nats per held-out cell. SCVI runs with its defaults, and early-stopped with 50 warm-up epochs. The
probe is macro-F1 of a logistic regression on posterior means minus that on as many principal
components.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import time
import warnings

import numpy as np
import torch

import pgm_expr
from pgm_expr import evaluation
from pgm_expr.data import load_dataset
from pgm_expr.runs.table import prepare

PCA_SIZE = 10


def data_sets(splits):
    """(name, AnnData, label column, gene rule, splits) of each available data set."""
    yield "pbmc68k_reduced", load_dataset("pbmc68k_reduced"), "bulk_labels", {}, splits
    if os.environ.get("PGM_EXPR_DATA"):
        adata = load_dataset("pbmc3k")
        adata = adata[(adata.obs["cell_type"] != "unassigned").to_numpy()].copy()
        rule = {"min_cells": 3, "n_top_genes": 2000}
        yield "pbmc3k", adata, "cell_type", rule, [0]


def ours(adata, label, rule, split, seed):
    started = time.perf_counter()
    run = pgm_expr.fit(
        adata, labels_key=label, split_seed=split, seed=seed, progress=False, **rule
    )
    seconds = time.perf_counter() - started
    figures = run.evaluate()
    return {
        "iwae": figures["heldout_iwae"],
        "elbo": figures["heldout_elbo"],
        "kl": figures["kl"],
        "probe": figures["probe_macro_f1"] - figures["pca_probe_macro_f1"],
        "over_gene_nb": z_score(figures, "gene_nb"),
        "over_label_nb": z_score(figures, "label_nb"),
        "epochs": len(run.history),
        "seconds": seconds,
    }


def z_score(figures, name):
    """The paired difference to a baseline in standard errors."""
    row = next(row for row in figures["table"] if row["model"] == name)
    return row["story_minus"] / row["paired_se"]


def scvi(adata, label, rule, split, seed, **settings):
    import scvi

    scvi.settings.seed, scvi.settings.verbosity = seed, logging.ERROR
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    table = prepare(adata, dict(labels_key=label), split_seed=split, **rule)
    part = adata[:, table.cells.genes].copy()
    train, test = part[table.split.development].copy(), part[table.split.test].copy()
    scvi.model.SCVI.setup_anndata(train)
    model = scvi.model.SCVI(train, gene_likelihood="nb")
    started = time.perf_counter()
    model.train(accelerator="cpu", enable_progress_bar=False, **settings)
    seconds = time.perf_counter() - started
    labels = table.cells.columns["label"]
    latents = [model.get_latent_representation(p) for p in (train, test)]
    columns = [labels[i] for i in (table.split.development, table.split.test)]
    components = evaluation.pca(train.X, test.X, size=PCA_SIZE)
    scores = [
        evaluation.probe(a, columns[0], b, columns[1])["macro_f1"]
        for a, b in (latents, components)
    ]
    return {
        "iwae": scvi_iwae(model.module, torch.tensor(test.X.toarray(), dtype=torch.float32)),
        "probe": scores[0] - scores[1],
        "epochs": len(model.history["elbo_train"]),
        "seconds": seconds,
    }


@torch.no_grad()
def scvi_iwae(module, x, draws=500, chunk=25):
    """The same estimator for SCVI: log mean of p(x, z) / q(z | x), by cell."""
    module.eval()
    torch.manual_seed(0)
    bounds = []
    for rows in x.split(64):
        batch = torch.zeros(len(rows), 1, dtype=torch.long)
        total = torch.full((len(rows),), -math.inf)
        for _ in range(draws // chunk):
            latent = module.inference(rows, batch, n_samples=chunk)
            out = module.generative(latent["z"], latent["library"], batch)
            weight = out["px"].log_prob(rows).sum(-1) + out["pz"].log_prob(latent["z"]).sum(-1)
            weight = weight - latent["qz"].log_prob(latent["z"]).sum(-1)
            total = torch.logaddexp(total, weight.logsumexp(0))
        bounds.append(total - math.log(draws))
    return torch.cat(bounds).mean().item()


PEERS = {
    "scvi defaults": {"max_epochs": 400},
    "scvi early-stopped": {
        "max_epochs": 400,
        "early_stopping": True,
        "train_size": 0.9,
        "plan_kwargs": {"n_epochs_kl_warmup": 50},
    },
}


def report(name, split, who, rows):
    means = {key: np.mean([row[key] for row in rows]) for key in rows[0]}
    each = ", ".join(f"{row['iwae']:.2f}" for row in rows)
    figures = "  ".join(f"{key} {value:.3f}" for key, value in means.items())
    print(f"{name} split {split}  {who:18s} {figures}  (iwae by seed: {each})", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--splits", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--peers", action="store_true", help="train SCVI too (minutes)")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for name, adata, label, rule, splits in data_sets(options.splits):
        for split in splits:
            seeds = range(options.seeds)
            report(
                name, split, "pgm_expr vae", [ours(adata, label, rule, split, s) for s in seeds]
            )
            for who, settings in PEERS.items() if options.peers else ():
                rows = [scvi(adata, label, rule, split, s, **settings) for s in seeds]
                report(name, split, who, rows)


if __name__ == "__main__":
    main()
