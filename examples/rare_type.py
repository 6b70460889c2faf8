"""Do generated cells of a rare type improve a classifier of cell types?

python examples/rare_type.py [--smoke]

Simulated cells of three types, one of them rare. The story `cvae` is conditioned on the type as a
covariate (otherwise states of a rare type shrink towards those of its neighbours), a flow is
trained on its posteriors by type, and generates cells of the rare type. A logistic classifier of
types is trained on the cells of the fit alone, with copies of the rare cells (the baseline), and
with as many generated ones, and is judged on held-out cells.
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

RARE, SHARE, MORE = "type2", 0.02, 300  # share of rare cells that is kept, cells to add


def cells(n: int) -> tuple[AnnData, AnnData]:
    """Cells with a few of the rare type, and held-out cells with types of equal size."""
    adata = simulate(2 * n, 200, seed=0, types=3, median_library=150.0).to_anndata()
    known, test = adata[:n], adata[n:].copy()
    rare = np.flatnonzero(known.obs["type"] == RARE)
    gone = rare[int(SHARE * len(rare)) :]
    return known[np.setdiff1d(np.arange(n), gone)].copy(), test


def log_normalised(x: np.ndarray) -> np.ndarray:
    return np.log1p(1e4 * x / x.sum(1, keepdims=True))


def scores(x: np.ndarray, y: np.ndarray, test: AnnData) -> dict[str, float]:
    """Recall of the rare type and macro-F1 of a classifier on held-out cells."""
    guess = LogisticRegression(max_iter=2000).fit(log_normalised(x), y)
    found = guess.predict(log_normalised(test.X.toarray()))
    truth = test.obs["type"].astype(str)
    recall = recall_score(truth, found, labels=[RARE], average="macro")
    return {"recall of the rare type": recall, "macro-F1": f1_score(truth, found, average="macro")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few epochs, figures mean nothing")
    smoke = parser.parse_args().smoke
    (adata, test), quick = cells(600 if smoke else 4000), dict(epochs=2) if smoke else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # posterior collapse in a smoke run
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
        "original cells": scores(x, y, test),
        "with copies": scores(np.vstack([x, copies]), labels, test),
        "with generated cells": scores(np.vstack([x, drawn]), labels, test),
    }
    print(f"{len(rare)} of {len(y)} cells are of the rare type; {MORE} are added")
    print(pd.DataFrame(rows).T.round(3).to_string())


if __name__ == "__main__":
    main()
