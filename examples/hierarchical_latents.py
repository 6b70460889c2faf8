"""Which latent variable represents the cell type, which the condition, and which the batch?

python examples/hierarchical_latents.py [--smoke]

Fits the story `hierarchical` to simulated cells of four types in two conditions and two batches,
and probes each of its three latents for all three. Labels are withheld from the embedding. Figures
are balanced accuracies of a logistic regression on posterior means of held-out cells; chance is
0.25 for the type and 0.50 for condition and batch.
"""

from __future__ import annotations

import argparse
import warnings

from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

import pgm_expr
from pgm_expr.simulate import simulate

KEYS = dict(labels_key="type", batch_key="batch", categorical_covariate_keys=["condition"])
LATENTS = ("z_type", "z_state", "z_technical")
FACTORS = ("type", "condition", "batch")


def score(z, levels, split):
    """Balanced accuracy of a probe on held-out cells."""
    fitted = LogisticRegression(max_iter=2000).fit(z[split.development], levels[split.development])
    return balanced_accuracy_score(levels[split.test], fitted.predict(z[split.test]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few epochs, figures mean nothing")
    smoke = parser.parse_args().smoke
    cells, genes, quick = (300, 30, dict(epochs=2)) if smoke else (2000, 200, {})
    truth = simulate(cells, genes, seed=0, batches=2, conditions=2, latent=2)
    adata = truth.to_anndata()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # posterior collapse in a smoke run
        run = pgm_expr.fit(adata, "hierarchical", seed=0, progress=False, **KEYS, **quick)
    run.embed(adata)
    print(f"{'latent':12}", *(f"{name:>10}" for name in FACTORS))
    for name in LATENTS:
        z = adata.obsm[f"{run.key}_{name}"]
        scores = (score(z, getattr(truth, factor), run.table.split) for factor in FACTORS)
        print(f"{name:12}", *(f"{value:10.2f}" for value in scores))


if __name__ == "__main__":
    main()
