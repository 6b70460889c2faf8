"""The tables of docs/variants.md: priors x objectives x likelihoods of the vae story, on splits.

    .venv/bin/python benchmarks/variants.py --out runs/variants

pbmc3k is read from the folder that PGM_EXPR_DATA names; without it, pbmc68k_reduced alone is used.
An interrupted benchmark resumes. Prints the ranking as text and as Markdown.
"""

import argparse
import os
from pathlib import Path

from rich.console import Console

import pgm_expr
from pgm_expr import report
from pgm_expr.data import load_dataset

VARIANTS = {
    "objectives": ["trace", "mean-field", "iwae-5", "renyi-0.5-5"],
    "likelihoods": ["nb", "zinb"],
    "priors": ["normal", "mog", "vamp", "flow"],
}
HEAD = "objective | likelihood | prior | IWAE | diff | KL | probe | s".split(" | ")


def data_sets():
    """(name, data, settings) of each available data set; IWAE at K and 4 K draws."""
    yield "pbmc68k_reduced", "pbmc68k_reduced", {"labels_key": "bulk_labels", "draws": 500}
    if os.environ.get("PGM_EXPR_DATA"):
        adata = load_dataset("pbmc3k")
        adata = adata[(adata.obs["cell_type"] != "unassigned").to_numpy()].copy()
        genes = {"min_cells": 3, "n_top_genes": 2000}
        yield "pbmc3k", adata, {"labels_key": "cell_type", "draws": 100, **genes}


def markdown(rows):
    """The fitted rows as a Markdown table."""
    yield "| " + " | ".join(HEAD) + " |"
    yield "|---|---|---|" + "---:|" * (len(HEAD) - 3)
    for row in rows:
        if not row["refused"]:
            yield "| " + " | ".join(cells(row)) + " |"


def cells(row):
    """One row: mean and standard deviation over seeds, difference and its total error."""
    diff = f"{row['diff']:+.2f} ± {row['se']:.2f}" if row["diff"] else "first"
    return [
        *(row[key] for key in ("objective", "likelihood", "prior")),
        f"{row['heldout_iwae']:.2f} ± {row['heldout_iwae_sd']:.2f}",
        diff + (" tie" if row["tie"] else ""),
        f"{row['kl']:.1f}",
        f"{row['probe_macro_f1']:.3f}",
        f"{row['seconds']:.0f}",
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", help="one data set")
    arguments = parser.parse_args()
    for name, data, settings in data_sets():
        if arguments.only in (None, name):
            out = arguments.out / name
            done = pgm_expr.compare(
                data,
                out=out,
                jobs=arguments.jobs,
                splits=arguments.splits,
                seeds=arguments.seeds,
                **VARIANTS,
                **settings,
            )
            Console(width=120).print(
                name, report.comparison_page(done.rows, done.zero_inflation, done.draws)
            )
            print(*markdown(done.rows), sep="\n")


if __name__ == "__main__":
    main()
