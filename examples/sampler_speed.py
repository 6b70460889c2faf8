"""How many steps does a sampler of latent diffusion need?

python examples/sampler_speed.py [--smoke]

Fits the story `vae` to 700 real cells and latent diffusion to its posteriors. `AUC` is that of a
classifier (gradient boosting, cross-fitted) between states sampled with a few steps and states
sampled with 1,000 steps; 0.5 is chance. `seconds` is the time for 1,000 cells including counts.
The last line compares two samples with 1,000 steps.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

import pgm_expr
from pgm_expr.diffusion import ddim, dpm_solver_pp_2m, heun

SAMPLERS = {"ddim": ddim, "heun": heun, "dpm-solver++": dpm_solver_pp_2m}
STEPS = (5, 10, 20, 50)
BEST = 1000


def auc(one: np.ndarray, other: np.ndarray) -> float:
    """Cross-fitted AUC of a classifier between two sets of states (N, D)."""
    x, y = np.vstack([one, other]), np.repeat([0, 1], [len(one), len(other)])
    order = np.random.default_rng(0).permutation(len(x))
    make = HistGradientBoostingClassifier(random_state=0)
    p = cross_val_predict(make, x[order], y[order], cv=5, method="predict_proba")[:, 1]
    return roc_auc_score(y[order], p)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few epochs, figures mean nothing")
    smoke = parser.parse_args().smoke
    quick = dict(epochs=2) if smoke else {}
    n, best = (200, 30) if smoke else (5000, BEST)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # posterior collapse in a smoke run
        run = pgm_expr.fit("pbmc68k_reduced", seed=0, progress=False, **quick)
    run.learn("diffusion", steps=20 if smoke else None)

    def draw(seed: int, **how: object) -> np.ndarray:
        return run.generate(n, seed=seed, **how).obsm["X_generated"]

    truth = draw(0, steps=best)
    rows = []
    for name, sampler in SAMPLERS.items():
        for steps in STEPS:
            start = time.perf_counter()
            states = draw(1, steps=steps, sampler=sampler)
            seconds = (time.perf_counter() - start) * 1000 / n
            rows.append((f"{name} {steps}", auc(states, truth), seconds))
    rows.append(("1,000 steps", auc(draw(1, steps=best), truth), float("nan")))
    table = pd.DataFrame(rows, columns=["sampler and steps", "AUC", "seconds"])
    print(table.set_index("sampler and steps").to_string(na_rep="", float_format="%.3f"))


if __name__ == "__main__":
    main()
