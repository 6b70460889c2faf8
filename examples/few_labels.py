"""Ten labels a type, some of them wrong: is a story of labelled cells better than PCA?

python examples/few_labels.py [--smoke]

Simulated cells of five types, ten labelled of each and one or two of those wrong. The story
`label`, told how many by its option `noise`, is beside logistic regression on principal
components of log counts. `error` is how far confidence is from the share of cells that are right,
above what chance alone makes of it. The story draws cells of a kind too: their composition beside
that of real cells of the type, and of the nearest other type.
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
    """The cells, ten of each type with a label, some wrong, in the column `told`."""
    rng, told = np.random.default_rng(0), np.full(len(truth.type), -1)
    for kind in range(TYPES):
        own = rng.choice(development[truth.type[development] == kind], LABELS, replace=False)
        wrong = (kind + rng.integers(1, TYPES, LABELS)) % TYPES
        told[own] = np.where(rng.random(LABELS) < NOISE, wrong, kind)
    adata = truth.to_anndata()
    adata.obs["told"] = [f"type{kind}" if kind >= 0 else None for kind in told]
    return adata


def story(adata: AnnData, quick: dict) -> tuple[np.ndarray, pgm_expr.Run]:
    """p(type | x) of all cells by the story, and the run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the collapse of a smoke run
        run = pgm_expr.fit(
            adata, "label", labels_key="told", noise=NOISE, seed=0, progress=False, **quick
        )
    return run.predict_labels(adata).to_numpy(), run


def components(adata: AnnData, development: np.ndarray) -> np.ndarray:
    """p(type | x) of all cells by logistic regression on ten principal components."""
    _, z = pca(adata.X[development], adata.X)
    z = z / z[development].std(0)
    told = adata.obs["told"].astype("category").cat.codes.to_numpy()
    chosen = development[told[development] >= 0]
    return LogisticRegression(max_iter=5000).fit(z[chosen], told[chosen]).predict_proba(z)


def judge(name: str, p: np.ndarray, types: np.ndarray) -> None:
    f1 = f1_score(types, p.argmax(1), average="macro")
    right, sure = (p.argmax(1) == types).mean(), p.max(1).mean()
    error = excess_calibration_error(p, types)
    print(f"{name:22} {f1:8.3f} {right:9.3f} {sure:11.3f} {error:7.3f}")


def composition(x) -> np.ndarray:
    total = np.asarray(x.sum(0)).ravel()
    return total / total.sum()


def kinds(run: pgm_expr.Run, truth: Truth) -> None:
    """Draws of each kind against the real cells of each type."""
    real = np.stack([composition(truth.x[truth.type == kind]) for kind in range(TYPES)])
    print("\ndraws of   own type   nearest other   (half the sum of absolute differences)")
    for kind in range(TYPES):
        drawn = composition(run.sample(500, condition={"told": f"type{kind}"}).X)
        gaps = np.abs(real - drawn).sum(1) / 2
        print(f"type{kind}     {gaps[kind]:8.3f} {np.delete(gaps, kind).min():15.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few epochs, figures mean nothing")
    smoke = parser.parse_args().smoke
    cells, genes = (400, 40) if smoke else (2500, 200)
    truth = simulate(cells, genes, seed=0, types=TYPES, scales=Scales(type=TYPE_EFFECT))
    split = random_split(cells, 0)  # that of the fit: labels of test cells would not be used
    adata = few_labels(truth, split.development)
    p, run = story(adata, dict(epochs=3) if smoke else {})
    print("held-out cells         macro-F1     right  confidence   error")
    judge("label with noise", p[split.test], truth.type[split.test])
    other = components(adata, split.development)
    judge("regression on PCA", other[split.test], truth.type[split.test])
    kinds(run, truth)


if __name__ == "__main__":
    main()
