"""Few labels on pbmc3k: the story `label` beside logistic regression on principal components.

For each split seed, 10 training cells per class are labelled (or a share of the training cells),
the same for both methods. Figures: macro-F1 on all test cells, its difference paired over seeds
with a 95% interval of Student's t, and the expected calibration error minus its expectation if the
probabilities were correct (`evaluation.excess_calibration_error`). PCA: 30 components of
log(1 + 1e4 x / total), standardised, fitted on the training cells.

    PGM_EXPR_DATA=folder python benchmarks/few_labels.py [--seeds 0 1 2 3 4] [--cases few flipped]

Cases: `few` (10 per class), `flipped` (20% of them wrong, and `noise=0.2` for the story), `1`,
`5`, `10`, `100` (percent of the training cells, at least one per class).
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler

import pgm_expr
from pgm_expr import evaluation
from pgm_expr.data import load_dataset
from pgm_expr.runs.table import prepare

CASES = ("few", "flipped", "1", "5", "10", "100")


def cells():
    """pbmc3k in the 2,000 most variable genes of the training cells of split 0."""
    adata = load_dataset("pbmc3k")
    adata = adata[(adata.obs["cell_type"] != "unassigned").to_numpy()].copy()
    table = prepare(adata, min_cells=3, n_top_genes=2000)
    return adata[:, table.cells.genes].copy()


def labelled(case, seed, train, types):
    """Positions of the cells that keep a label."""
    rng = np.random.default_rng(1000 + seed)
    chosen = []
    for level in sorted(set(types)):
        members = rng.permutation(train[types[train] == level])
        share = 10 if case in ("few", "flipped") else max(1, round(len(members) * int(case) / 100))
        chosen.append(members[:share])
    return np.concatenate(chosen)


def recorded(case, seed, types, known):
    """The recorded labels; in `flipped` a fifth of them are wrong."""
    levels, labels = np.array(sorted(set(types))), types.copy()
    if case == "flipped":
        rng = np.random.default_rng(5000 + seed)
        wrong = rng.permutation(known)[: len(known) // 5]
        codes = np.searchsorted(levels, types[wrong])
        labels[wrong] = levels[(codes + rng.integers(1, len(levels), len(wrong))) % len(levels)]
    return labels


def compare(adata, case, seed, story):
    types, n = adata.obs["cell_type"].astype(str).to_numpy(), adata.n_obs
    order = np.random.default_rng(seed).permutation(n)
    test, train = order[: int(0.2 * n)], np.sort(order[int(0.2 * n) :])
    known = labelled(case, seed, train, types)
    labels = recorded(case, seed, types, known)
    adata.obs["recorded"] = None
    adata.obs.iloc[known, adata.obs.columns.get_loc("recorded")] = labels[known]
    options = {"noise": 0.2} if case == "flipped" and story == "label" else {}
    run = pgm_expr.fit(
        adata,
        story,
        labels_key="recorded",
        split_seed=seed,
        progress=False,
        **options,
    )
    p = run.predict_labels(adata).iloc[test]
    guess = p.idxmax(axis=1).to_numpy()
    x = adata.X.toarray()
    _, components = evaluation.pca(x[train], x, size=30, seed=seed)
    components = StandardScaler().fit(components[train]).transform(components)
    rival = LogisticRegression(max_iter=2000).fit(components[known], labels[known])
    codes = np.searchsorted(p.columns, types[test])
    return {
        "story": f1_score(types[test], guess, average="macro"),
        "pca": f1_score(types[test], rival.predict(components[test]), average="macro"),
        "excess": evaluation.excess_calibration_error(p.to_numpy(), codes),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--cases", nargs="+", default=["few", "flipped"], choices=CASES)
    parser.add_argument("--story", default="label")
    args, adata = parser.parse_args(), cells()
    for case in args.cases:
        rows = []
        for seed in args.seeds:
            rows.append(compare(adata, case, seed, args.story))
            said = ", ".join(f"{name} {value:.3f}" for name, value in rows[-1].items())
            print(f"{args.story} {case} seed {seed}: {said}", flush=True)
        gap = np.array([row["story"] - row["pca"] for row in rows])
        half = stats.t.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / len(gap) ** 0.5
        excess = np.mean([row["excess"] for row in rows])
        print(
            f"{args.story} {case}: macro-F1 minus that of PCA {gap.mean():+.3f} "
            f"[{gap.mean() - half:+.3f}, {gap.mean() + half:+.3f}] over {len(gap)} seeds, "
            f"excess calibration error {excess:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
