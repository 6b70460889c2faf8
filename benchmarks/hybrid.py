"""Counts of held-out cells predicted from metadata and library: the hybrid and its baselines.

    .venv/bin/python benchmarks/hybrid.py                            pbmc68k_reduced
    PGM_EXPR_DATA=folder .venv/bin/python benchmarks/hybrid.py       and kang_ifnb_2k

Baselines, all of counts given the library: a negative binomial per condition (a combination of
metadata); predictor + Gaussian on log values, by the mass of the interval of each count, with one
variance per gene; and the same with one per gene and condition. CRPS and the marginal log score
are summed over genes, the energy score is of log(1 + counts), and the joint log score uses 500
importance-weighted draws of the guide. Differences are paired over cells, with standard errors.
The hybrid is better where CRPS and energy differences are negative and log score differences are
positive.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
import torch

from pgm_expr import evaluation
from pgm_expr.distributions import RoundedGaussian
from pgm_expr.evaluation.bounds.baselines import fit_baseline
from pgm_expr.evaluation.counts.pit import by_bin, passes, predictions
from pgm_expr.inference import seeded
from pgm_expr.runs.table import prepare
from pgm_expr.tasks import GENERATORS
from pgm_expr.tasks.hybrid import fit_counts, fit_values

SETS = {"pbmc68k_reduced": (["bulk_labels"], {}), "kang_ifnb_2k": (["cell_type", "condition"], {})}
SIZE = 1e4


def table(name, split, genes):
    """Cells of the fit and held out: counts, one-hot metadata and codes of their combinations."""
    keys, rule = SETS[name]
    columns = dict(labels_key=keys[0], categorical_covariate_keys=tuple(keys))
    found = prepare(name, columns, split_seed=split, min_cells=3, n_top_genes=genes, **rule)
    encoded = found.cells.rows(np.arange(len(found.cells)))
    one_hot = encoded["condition"]
    levels, code = one_hot.unique(dim=0, return_inverse=True)
    if len(keys) > 1:  # the effect of a condition depends on the type
        one_hot = torch.nn.functional.one_hot(code).float()
    sides = []
    for at in (found.split.development, found.split.test):
        at = torch.from_numpy(at)
        sides.append({"c": one_hot[at], "x": encoded["x"][at], "code": code[at]})
    return *sides, len(levels)


def gaussian(hybrid, fit, levels):
    """predictor + Gaussian as counts, by the mean squared residual of all cells or of a level."""
    squares = hybrid.predictor.residuals.square()
    pooled = squares.mean(0)
    if not levels:
        variance = pooled.expand(1, -1)
        return lambda batch: _rounded(hybrid, variance, batch, torch.zeros_like(batch["code"]))
    of = [squares[fit["code"] == k] for k in range(levels)]
    variance = torch.stack([(s.sum(0) + 5 * pooled) / (len(s) + 5) for s in of])
    return lambda batch: _rounded(hybrid, variance, batch, batch["code"])


def _rounded(hybrid, variance, batch, rows):
    loc = hybrid.predict(batch["condition"])
    scale = variance[rows].clamp_min(1e-6).sqrt()
    return RoundedGaussian(loc, scale, SIZE / batch["library"]).to_event(1)


def energy(real, drawn):
    """E |y - y_s| - 1/2 E |y_s - y_t| by cell, of values y (N, G) and draws (S, N, G)."""
    y, draws = drawn.transpose(0, 1), len(drawn)
    near = torch.cdist(real[:, None], y).mean((1, 2))
    return near - torch.cdist(y, y).sum((1, 2)) / (2 * draws * (draws - 1))


def energy_of_counts(predict, batch, draws=100):
    with seeded(1):
        drawn = torch.stack([predict(batch).sample() for _ in range(draws)])
    return energy(batch["x"].log1p(), drawn.log1p())


def values_too(fit, values, held, normal):
    """The hybrid of log values and predictor + Gaussian, on log values."""
    hybrid = fit_values(fit["c"], values)
    real = _log_values(held["x"])
    scores = [energy(real, each.sample(held["c"], 100)) for each in (hybrid, normal)]
    means = " and ".join(f"{each.mean():.3f}" for each in scores)
    print(f"  log values, energy: hybrid and Gaussian {means}, {versus(*scores)}", flush=True)


def _log_values(x):
    return (SIZE * x / x.sum(-1, keepdim=True)).log1p()


def judged(predict, batch, draws):
    found = predictions(lambda _, other: predict(other), [(batch, batch)], draws=draws)
    scores = {
        "crps": found.crps,
        "log score": found.log_score,
        "energy": energy_of_counts(predict, batch),
    }
    return scores, found.pit.numpy()


def versus(ours, theirs):
    gap = ours.double() - theirs.double()
    return f"{gap.mean():+.3f} ± {evaluation.standard_error(gap):.3f}"


def calibration(pit, batch):
    x, code = batch["x"].numpy(), batch["code"].numpy()
    large = np.bincount(code).max() >= 50  # else no condition has enough cells to be judged
    rows = by_bin(pit, x, code if large else None)
    good, inside = passes(rows), rows["inside"]
    return (
        f"PIT {good.sum()} of {len(rows)} bins pass, inside {inside.min():.3f}-{inside.max():.3f}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=SETS)
    parser.add_argument("--splits", nargs="+", type=int, default=[0])
    parser.add_argument("--genes", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--generators", nargs="*", default=["flow"], choices=GENERATORS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    names = args.data or list(SETS)[: 1 + bool(os.environ.get("PGM_EXPR_DATA"))]
    for name in names:
        for split in args.splits:
            compare(name, split, args)


def compare(name, split, args):
    fit, held, levels = table(name, split, args.genes)
    library = held["x"].sum(-1, keepdim=True)
    print(f"{name} split {split}: {len(fit['x'])} cells of the fit, {len(held['x'])} held out, "
          f"{fit['x'].shape[1]} genes, {levels} conditions", flush=True)  # fmt: skip
    values = _log_values(fit["x"])
    normal = fit_values(fit["c"], values, generator=None)
    values_too(fit, values, held, normal)
    baseline = fit_baseline(fit["x"], fit["code"], levels)
    batch = {"x": held["x"], "library": library, "condition": held["c"], "code": held["code"]}
    baselines = {
        "NB by condition": lambda b: baseline.predict(b["library"], b["code"]),
        "predictor + Gaussian": gaussian(normal, fit, 0),
        "predictor + Gaussian by condition": gaussian(normal, fit, levels),
    }
    scores = {}
    for rival, predict in baselines.items():
        scores[rival], pit = judged(predict, batch, args.draws)
        means = ", ".join(f"{k} {v.mean():.3f}" for k, v in scores[rival].items())
        print(f"  {rival}: {means}; {calibration(pit, batch)}", flush=True)
    joint = baseline.predict(library, held["code"]).log_prob(held["x"])
    for generator in [None, *args.generators]:
        started = time.perf_counter()
        hybrid = fit_counts(fit["c"], fit["x"], generator=generator and GENERATORS[generator])
        seconds = time.perf_counter() - started
        given = batch | {"offset": hybrid.offset(held["c"])}
        ours, pit = judged(hybrid.counts, given, args.draws)
        means = ", ".join(f"{k} {v.mean():.3f}" for k, v in ours.items())
        print(f"  hybrid, z from {generator or 'the prior'} ({seconds:.0f} s): {means}; "
              f"{calibration(pit, given)}", flush=True)  # fmt: skip
        for rival, theirs in scores.items():
            gaps = ", ".join(f"{k} {versus(ours[k], theirs[k])}" for k in ours)
            print(f"    minus {rival}: {gaps}")
        if generator in (None, "flow", "cnf"):
            gap = versus(hybrid.log_score(given), joint)
            print(f"    joint log score minus NB by condition: {gap}", flush=True)


if __name__ == "__main__":
    main()
