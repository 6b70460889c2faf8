"""Does conditioning on the batch remove it from the states, and recover its effect on genes?

python examples/batch_correction.py [--smoke]

Fits `vae`, which ignores the batch, and `cvae`, which is conditioned on it, to simulated cells of
three types in two batches. Probes of held-out states predict the batch within types, where
`chance` is best, and the type, which should remain predictable. `cvae` also predicts the
expression of the same cells in the other batch (a counterfactual): the last line correlates its
log fold changes with the simulated ones.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np

import pgm_expr
from pgm_expr.evaluation import leakage, probe
from pgm_expr.simulate import Scales, Truth, simulate

STORIES = ["vae", "cvae"]


def states(run: pgm_expr.Run, truth: Truth) -> tuple[float, float, float]:
    """Accuracy of probes of the batch, its chance level, and accuracy for the type."""
    z, split = run.embed(truth.to_anndata()), run.table.split
    fit, new = split.development, split.test
    types = dict(train_groups=truth.type[fit], test_groups=truth.type[new])
    batch = leakage(
        z[fit], truth.batch[fit], z[new], truth.batch[new], **types, minimum=2, permutations=20
    )
    kind = probe(z[fit], truth.type[fit], z[new], truth.type[new])
    return batch.accuracy, batch.chance, kind["accuracy"]


def fold_changes(run: pgm_expr.Run, truth: Truth) -> float:
    """Correlation over genes of predicted and simulated log fold changes between batches."""
    there, here = (
        run.normalized_expression(truth.to_anndata(), condition={"batch": batch}, draws=5).mean(0)
        for batch in ("batch1", "batch0")
    )
    seen = truth.x.mean(0) > 0.3
    simulated = truth.log_fold_change({"batch": 1}, {"batch": 0})
    return float(np.corrcoef(np.log(there / here)[seen], simulated[seen])[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few epochs, figures mean nothing")
    smoke = parser.parse_args().smoke
    cells, genes = (200, 30) if smoke else (2000, 200)
    truth = simulate(
        cells, genes, seed=0, types=3, batches=2, median_library=2000.0, scales=Scales(batch=0.7)
    )
    quick = dict(epochs=3) if smoke else {}
    print("story     batch  chance    type   (accuracy of probes of held-out states)")
    for story in STORIES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # posterior collapse in a smoke run
            run = pgm_expr.fit(
                truth.to_anndata(), story, batch_key="batch", seed=0, progress=False, **quick
            )
        print(f"{story:8}" + "".join(f"{figure:7.3f} " for figure in states(run, truth)))
    r = fold_changes(run, truth)
    print(f"cvae, log fold changes between batches: r = {r:.2f} with the simulated ones")


if __name__ == "__main__":
    main()
