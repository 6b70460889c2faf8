"""Can cells of a rare type be generated, and does a classifier gain from them?

python examples/rare_type.py [--smoke]

Simulated cells of three types, one of them rare. The story `cvae` is told the type as a covariate
(a story that is not told draws cells of a rare type towards its neighbours), and a flow learns its
posteriors by type; then it draws cells of the rare one. A logistic classifier of types, trained on
the cells of the fit and judged on held-out ones, is given the same number of cells of the rare
type more: drawn ones, or copies of those there are (which is the rival to beat).
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, recall_score

import pgm_expr
from pgm_expr.simulate import simulate

RARE, SHARE, MORE = "type2", 0.02, 300  # kept of the rare type, and cells more of it


def cells(n: int) -> tuple[AnnData, AnnData]:
    """Types of equal sizes, but of the rare one a few; and as many held-out cells."""
    adata = simulate(2 * n, 200, seed=0, types=3, median_library=150.0).to_anndata()
    known, test = adata[:n], adata[n:].copy()
    rare = np.flatnonzero(known.obs["type"] == RARE)
    gone = rare[int(SHARE * len(rare)) :]
    return known[np.setdiff1d(np.arange(n), gone)].copy(), test


def log_normalised(x: np.ndarray) -> np.ndarray:
    return np.log1p(1e4 * x / x.sum(1, keepdims=True))


def judged(x: np.ndarray, y: np.ndarray, test: AnnData) -> dict[str, float]:
    """Figures of a classifier on held-out cells."""
    guess = LogisticRegression(max_iter=2000).fit(log_normalised(x), y)
    found = guess.predict(log_normalised(test.X.toarray()))
    truth = test.obs["type"].astype(str)
    recall = recall_score(truth, found, labels=[RARE], average="macro")
    return {"recall of the rare": recall, "macro-F1": f1_score(truth, found, average="macro")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few epochs, figures mean nothing")
    smoke = parser.parse_args().smoke
    (adata, test), quick = cells(600 if smoke else 4000), dict(epochs=2) if smoke else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the collapse of a smoke run
        run = pgm_expr.fit(
            adata,
            "cvae",
            labels_key="type",
            categorical_covariate_keys=["type"],
            seed=0,
            progress=False,
            **quick,
        )
    run.learn("flow", steps=20 if smoke else None)
    drawn = run.generate(MORE, by="flow", condition={"type": RARE}).X.toarray()
    x, y = adata.X.toarray(), adata.obs["type"].astype(str).to_numpy()
    rare = np.flatnonzero(y == RARE)
    copies = x[np.random.default_rng(0).choice(rare, MORE)]
    labels = np.concatenate([y, np.repeat(RARE, MORE)])
    rows = {
        "as they are": judged(x, y, test),
        "with copies": judged(np.vstack([x, copies]), labels, test),
        "with drawn cells": judged(np.vstack([x, drawn]), labels, test),
    }
    print(f"{len(rare)} of {len(y)} cells are of the rare type; {MORE} more")
    print(pd.DataFrame(rows).T.round(3).to_string())


if __name__ == "__main__":
    main()
