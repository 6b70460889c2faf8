"""What does the predicted distribution of counts show that the mean does not?

python examples/beyond_point_estimates.py [--smoke]

Fits the story `vae` to 700 real cells and a flow to its posteriors by type, then generates 2,000
cells of each of two types. For the genes that differ most, the table lists the mean in each type
and, for the first type, the share of cells without a count, the 99% quantile and the number of
modes; then the cells per type that a Wilcoxon test needs for a power of 0.8. The last line gives
the percentile of an observed cell in the predicted distribution of its type: near 0 or 1, its
count is unusual.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
import pandas as pd

import pgm_expr
from pgm_expr.data import load_dataset
from pgm_expr.tasks import cells_needed, modes, percentile_of, quantile, tail_probability

ONE, OTHER = "CD19+ B", "CD14+ Monocyte"
KEY = "bulk_labels"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few epochs, figures mean nothing")
    smoke = parser.parse_args().smoke
    n, quick = (1000, dict(epochs=2)) if smoke else (2000, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # posterior collapse in a smoke run
        run = pgm_expr.fit("pbmc68k_reduced", labels_key=KEY, seed=0, progress=False, **quick)
    run.learn("flow", steps=20 if smoke else None)
    one, other = (
        run.generate(n, by="flow", condition={KEY: level}).to_df() for level in (ONE, OTHER)
    )
    change = np.log(one.mean() + 0.05) - np.log(other.mean() + 0.05)
    genes = list(change.abs().sort_values(ascending=False).index[:6])
    x, y = one[genes].to_numpy(), other[genes].to_numpy()
    table = pd.DataFrame(
        {
            "mean": x.mean(0),
            f"in {OTHER}": y.mean(0),
            "share of zeros": 1 - tail_probability(x, 0).value,
            "99% quantile": quantile(x, 0.99),
            "modes": modes(x),
            "cells per type": cells_needed(x, y).value,
        },
        index=pd.Index(genes, name=ONE),
    )
    print(table.round(2).to_string())
    adata = load_dataset("pbmc68k_reduced")
    cell = adata.obs_names[adata.obs[KEY] == ONE][0]
    place = percentile_of(adata[cell, genes].X.toarray().ravel(), x)
    words = ", ".join(f"{g} {p:.2f}" for g, p in zip(genes, place.value, strict=True))
    print(f"\n{cell}, percentile among predicted {ONE}: {words}")


if __name__ == "__main__":
    main()
