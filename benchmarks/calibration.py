"""Are predicted counts of held-out cells of pbmc3k calibrated, in every bin within every type?

The counts of each test cell are thinned into two halves: the state is inferred from one half, and
the other half is predicted given its library. Randomised PITs are grouped in bins of expression
(20 genes or more) within each type of at least 50 test cells. A bin is calibrated where 93 to 97%
of its PITs are in [0.025, 0.975] and each tail has 1.5 to 3.5%. Log score and CRPS are compared
with a negative binomial per gene, and one per gene and type (given the type), paired over cells.

    PGM_EXPR_DATA=folder python benchmarks/calibration.py [--ways plain refined ...] [--seed 0]

Ways: `plain`; `refined`, the posterior of each cell refined given its half; `half`, a fit to
thinned training cells, so that the guide is trained at that depth; `slept`, a guide recalibrated
on simulated cells (`Run.sleep`); `mog`, `nb-cell`, parts of the story; and combinations.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from few_labels import cells

import pgm_expr
from pgm_expr import evaluation, predict
from pgm_expr.data import sweep
from pgm_expr.distributions import NegativeBinomial
from pgm_expr.evaluation.counts import pit, thinning
from pgm_expr.evaluation.guide.refine import refined_guide

WAYS = {  # options of the fit, by way
    "plain": {},
    "refined": {},
    "half": {},
    "half-refined": {},
    "mog": dict(prior="mog"),
    "half-mog": dict(prior="mog"),
    "half-mog-refined": dict(prior="mog"),
    "nb-cell": dict(likelihood="nb-cell"),
    "nb-cell-refined": dict(likelihood="nb-cell"),
    "slept": {},
    "half-slept": {},
    "half-mog-slept": dict(prior="mog"),
    "half-mog-slept-refined": dict(prior="mog"),
    "half-nb-cell-slept": dict(likelihood="nb-cell"),
}


def thinned(adata, seed=0):
    """The same cells at half their depth."""
    half = adata.copy()
    half.X.data = np.random.default_rng(seed).binomial(half.X.data.astype(int), 0.5)
    half.X.eliminate_zeros()
    return half


def of_baseline(baseline, by_type):
    """Predictions of a negative binomial per gene, or per gene and type, `log_share` by type."""

    def predicted(seen, other):
        rows = baseline.log_share[other["type"] if by_type else [-1] * len(other["x"])]
        log_mean = other["library"].log() + rows
        return NegativeBinomial(log_mean, baseline.log_dispersion).to_event(1)

    return predicted


def of_story(run, refine):
    """Predictions by the guide, or by refined posteriors, found once per minibatch."""
    kept = {}

    def predicted(seen, other):
        guide = run.guide
        if refine:
            if id(seen) not in kept:
                kept.clear()
                with torch.enable_grad(), refined_guide(run.model, guide, seen) as found:
                    kept[id(seen)] = found
            guide = kept[id(seen)]
        return predict.predict(run.model, guide, seen, other)

    return predicted


def scored(name, ours, other):
    for score, sign in (("log_score", 1), ("crps", -1)):
        gap = sign * (getattr(ours, score) - getattr(other, score)).double()
        error = evaluation.standard_error(gap)
        print(f"    {score}, improvement over {name}: {gap.mean():+.2f} ± {error:.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ways", nargs="+", default=["plain", "refined"], choices=WAYS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=199)
    args, adata = parser.parse_args(), cells()
    for way in args.ways:
        data = thinned(adata) if way.startswith("half") else adata
        run = pgm_expr.fit(
            data, labels_key="cell_type", seed=args.seed, progress=False, **WAYS[way]
        )
        if "slept" in way:
            run.sleep()
        whole = run.query(adata)
        split, label = run.table.split, torch.as_tensor(whole.columns["label"])
        batches = [
            {**batch, "type": label[batch["index"]]}
            for batch in predict.withheld(sweep(whole, split.test, 64))
        ]
        pairs = list(thinning.halves(batches))
        ours = pit.predictions(of_story(run, way.endswith("refined")), pairs, draws=args.draws)
        x = torch.cat([other["x"] for _, other in pairs]).numpy()
        types = np.array(run.encoding.labels)[label[split.test]]
        rows = pit.by_bin(ours.pit.numpy(), x, types)
        kept = pit.passes(rows)
        shares = ", ".join(f"{k} {v:.4f}" for k, v in pit.shares(ours.pit.numpy()).items())
        print(f"{way}: {kept.sum()} of {len(rows)} bins are calibrated; all PITs: {shares}")
        print(rows[~kept].round(4).to_string(index=False), flush=True)
        train = torch.from_numpy(whole.counts[split.development].toarray())
        y = label[split.development]
        fitted = evaluation.fit_baseline(train, y, len(run.encoding.labels))
        alone = evaluation.fit_baseline(train)
        rivals = {"per-gene NB": (alone, False), "per-type NB": (fitted, True)}
        for name, rival in rivals.items():
            scored(name, ours, pit.predictions(of_baseline(*rival), pairs, draws=args.draws))


if __name__ == "__main__":
    main()
