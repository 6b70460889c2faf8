"""Selection of the training defaults on validation cells alone, one change at a time.

    PGM_EXPR_DATA=folder .venv/bin/python benchmarks/defaults.py

Each line changes one setting of the defaults and prints the mean IWAE-200 of the validation cells,
in nats per cell, over splits of pbmc68k_reduced and, where PGM_EXPR_DATA is set, seeds of pbmc3k.
Test cells are not used. `--only batch_size` runs the lines that change one setting.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from quality import data_sets

import pgm_expr
from pgm_expr import evaluation
from pgm_expr.data import sweep

CHANGES = [
    {},
    {"learning_rate": 1e-3},
    {"learning_rate": 4e-3},
    {"batch_size": 32},
    {"batch_size": 128},
    {"weight_decay": 0.1},
    {"weight_decay": 3.0},
    {"encoder_dropout": 0.1},
    {"encoder_dropout": 0.3},
    {"encoder_dropout": 0.5},
    {"decoder_dropout": 0.0},
    {"decoder_dropout": 0.2},
    {"hidden": 256},
    {"latent": 20},
    {"warmup_epochs": 50},
]


def validation_iwae(adata, label, rule, split, seed, change):
    run = pgm_expr.fit(
        adata, labels_key=label, split_seed=split, seed=seed, progress=False, **rule, **change
    )
    batches = sweep(run.table.cells, run.table.split.validation, 64)
    return evaluation.iwae(run.model, run.guide, batches, (200,))[200].mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="a setting's name")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for name, adata, label, rule, splits in data_sets(range(options.repeats)):
        for change in CHANGES:
            if options.only and change and options.only not in change:
                continue
            pairs = [(splits[i % len(splits)], i) for i in range(options.repeats)]
            values = [validation_iwae(adata, label, rule, *pair, change) for pair in pairs]
            each = ", ".join(f"{value:.2f}" for value in values)
            print(f"{name} {change or 'defaults'}  {np.mean(values):.2f}  ({each})", flush=True)


if __name__ == "__main__":
    main()
