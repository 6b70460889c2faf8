"""Does `az.compare` of held-out bounds rank stories like the bound of other held-out cells?

Four variants of `vae` are fitted to each data set. Test cells are split in two halves. One half is
ranked by `inference_data.compare` (`az.compare` of per-cell IWAE), the other by its mean bound.
Pairs whose paired difference on the second half exceeds two standard errors should have the same
order.

    PGM_EXPR_DATA=folder python benchmarks/ranking.py [--data pbmc68k_reduced pbmc3k paul15]
"""

from __future__ import annotations

import argparse
import itertools
import warnings

import numpy as np

import pgm_expr
from pgm_expr import evaluation, predict
from pgm_expr.data import sweep
from pgm_expr.evaluation import inference_data

VARIANTS = {
    "nb": {},
    "zinb": dict(likelihood="zinb"),
    "poisson": dict(likelihood="poisson"),
    "nb, beta 4": dict(beta=4.0),
}


def bounds(name, options):
    genes = {} if name == "pbmc68k_reduced" else dict(min_cells=3, n_top_genes=1000)
    run = pgm_expr.fit(name, epochs=80, progress=False, **genes, **options)
    test = sweep(run.table.cells, run.table.split.test, 64)
    return evaluation.iwae(run.model, run.guide, predict.withheld(test), (200,))[200].numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["pbmc68k_reduced", "pbmc3k", "paul15"])
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in args.data:
        found = {variant: bounds(name, options) for variant, options in VARIANTS.items()}
        order = np.random.default_rng(0).permutation(len(found["nb"]))
        one, other = np.array_split(order, 2)
        table = inference_data.compare({k: v[one] for k, v in found.items()})
        place, agreed, compared = list(table.index), 0, 0
        for a, b in itertools.combinations(found, 2):
            gap = found[a][other] - found[b][other]
            if abs(gap.mean()) > 2 * gap.std(ddof=1) / len(gap) ** 0.5:
                compared += 1
                agreed += (place.index(a) < place.index(b)) == (gap.mean() > 0)
        means = ", ".join(f"{k} {found[k][other].mean():.2f}" for k in place)
        print(f"{name}: order by az.compare, with means of the other half: {means}")
        print(
            f"    {agreed} of {compared} pairs that differ by 2 standard errors agree",
            flush=True,
        )


if __name__ == "__main__":
    main()
