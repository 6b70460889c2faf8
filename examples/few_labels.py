"""Given ten labels per type, some wrong: does a story of labelled cells predict better than PCA?

python examples/few_labels.py [--smoke]

Simulated cells of five types; ten cells of each have a label, and one or two of these labels are
wrong. The story `label`, whose option `noise` is the share of wrong labels, is compared with
logistic regression on principal components of log counts. `error` is the expected calibration
error in excess of its value for correct probabilities. The story also draws cells of each type:
their mean composition is compared with that of real cells of the type and of the nearest other
type.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from anndata import AnnData
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

import pgm_expr
from pgm_expr.data import random_split
from pgm_expr.evaluation import excess_calibration_error, pca
from pgm_expr.simulate import Scales, Truth, simulate

TYPES, LABELS, NOISE = 5, 10, 0.15
TYPE_EFFECT = 0.7  # of log expression, over genes; that of states within a type is 0.7 too


def few_labels(truth: Truth, development: np.ndarray) -> AnnData:
    """The cells; ten of each type have a label, some wrong, in the column `recorded`."""
    rng, recorded = np.random.default_rng(0), np.full(len(truth.type), -1)
    for kind in range(TYPES):
        some = rng.choice(development[truth.type[development] == kind], LABELS, replace=False)
        wrong = (kind + rng.integers(1, TYPES, LABELS)) % TYPES
        recorded[some] = np.where(rng.random(LABELS) < NOISE, wrong, kind)
    adata = truth.to_anndata()
    adata.obs["recorded"] = [f"type{kind}" if kind >= 0 else None for kind in recorded]
    return adata


def story(adata: AnnData, quick: dict) -> tuple[np.ndarray, pgm_expr.Run]:
    """p(type | x) of all cells from the story, and the run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # posterior collapse in a smoke run
        run = pgm_expr.fit(
            adata, "label", labels_key="recorded", noise=NOISE, seed=0, progress=False, **quick
        )
    return run.predict_labels(adata).to_numpy(), run


def components(adata: AnnData, development: np.ndarray) -> np.ndarray:
    """p(type | x) of all cells from logistic regression on ten principal components."""
    _, z = pca(adata.X[development], adata.X)
    z = z / z[development].std(0)
    recorded = adata.obs["recorded"].astype("category").cat.codes.to_numpy()
    chosen = development[recorded[development] >= 0]
    return LogisticRegression(max_iter=5000).fit(z[chosen], recorded[chosen]).predict_proba(z)


def judge(name: str, p: np.ndarray, types: np.ndarray) -> None:
    f1 = f1_score(types, p.argmax(1), average="macro")
    accuracy, confidence = (p.argmax(1) == types).mean(), p.max(1).mean()
    error = excess_calibration_error(p, types)
    print(f"{name:22} {f1:8.3f} {accuracy:9.3f} {confidence:11.3f} {error:7.3f}")


def composition(x) -> np.ndarray:
    total = np.asarray(x.sum(0)).ravel()
    return total / total.sum()


def kinds(run: pgm_expr.Run, truth: Truth) -> None:
    """Drawn cells of each type against the real cells of all types."""
    real = np.stack([composition(truth.x[truth.type == kind]) for kind in range(TYPES)])
    print("\ndrawn      same type   nearest other   (total variation of mean compositions)")
    for kind in range(TYPES):
        drawn = composition(run.sample(500, condition={"recorded": f"type{kind}"}).X)
        gaps = np.abs(real - drawn).sum(1) / 2
        print(f"type{kind}     {gaps[kind]:8.3f} {np.delete(gaps, kind).min():15.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few epochs, figures mean nothing")
    smoke = parser.parse_args().smoke
    cells, genes = (400, 40) if smoke else (2500, 200)
    truth = simulate(cells, genes, seed=0, types=TYPES, scales=Scales(type=TYPE_EFFECT))
    split = random_split(cells, 0)  # as in the fit, which does not use labels of test cells
    adata = few_labels(truth, split.development)
    p, run = story(adata, dict(epochs=3) if smoke else {})
    print("held-out cells         macro-F1  accuracy  confidence   error")
    judge("label with noise", p[split.test], truth.type[split.test])
    other = components(adata, split.development)
    judge("regression on PCA", other[split.test], truth.type[split.test])
    kinds(run, truth)


if __name__ == "__main__":
    main()
