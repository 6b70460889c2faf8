"""Does criticism detect a misspecified likelihood, and which of its figures show it?

python examples/criticism.py [--smoke]

The simulated counts are negative binomial with variance m + m^2 / 2 in the median gene, for a mean
m. The story `vae` is fitted with a Poisson likelihood, which is misspecified, and with a negative
binomial one. Randomised PITs and zero rates show the misfit of the counts; the error of zero rates
is compared with that of other real cells. ArviZ compares the held-out log likelihoods. Pareto k
and the coverage of latent states are about the guide: the posterior of the Poisson model is
narrower and harder to approximate. Writes criticism.png, ArviZ's plot of observed and predicted
counts (with ArviZ 1.x one file per likelihood), to the current folder.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

import pgm_expr
from pgm_expr.evaluation.inference_data import compare
from pgm_expr.simulate import simulate

SECTIONS = ["heldout", "health", "sbc", "ppc", "calibration"]
DISPERSION = 2.0, 0.5  # median of theta over genes, and its sd on the log scale


def figures(checks: Mapping[str, Any]) -> dict[str, float]:
    """The figures of one criticism that are printed."""
    (zeros,) = (row for row in checks["ppc"]["rows"] if row["check"] == "zero rate")
    return {
        "held-out log p, nats per cell": checks["heldout"]["iwae_4k"],
        "share of PITs in the central 95%": checks["calibration"]["inside"],
        "zero rate, error of draws": zeros["drawn"],
        "zero rate, error of other real cells": zeros["floor"],
        "genes with zero rates outside 95% of draws": zeros["extreme"],
        "Pareto k, median": checks["health"]["pareto_k"]["q50"],
        "coverage of latent states, error": checks["sbc"]["pooled_error"],
    }


def pictures(runs: Mapping[str, pgm_expr.Run], cells: int) -> list[str]:
    """Files with observed and predicted counts, as ArviZ's documentation plots them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ 0.x announces 1.x
        import arviz as az

        if not hasattr(az, "plot_ppc"):  # ArviZ 1.x
            files = {name: f"criticism-{name}.png" for name in runs}
            for name, run in runs.items():
                data = run.to_arviz(cells=cells, draws=50)
                az.plot_ppc_dist(data, kind="ecdf").savefig(files[name])
            return [*files.values()]
        figure, panels = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
        for axes, (name, run) in zip(panels, runs.items(), strict=True):
            data = run.to_arviz(cells=cells, draws=50)
            az.plot_ppc(data, kind="cumulative", mean=False, ax=axes, textsize=9)
            axes.set(title=name, xlabel="counts", xlim=(0, 20))
    figure.savefig("criticism.png")
    plt.close(figure)
    return ["criticism.png"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few epochs, figures mean nothing")
    smoke = parser.parse_args().smoke
    cells, genes = (300, 30) if smoke else (2000, 100)
    adata = simulate(
        cells, genes, seed=0, median_library=500.0, dispersion=DISPERSION
    ).to_anndata()
    quick, few = (dict(epochs=3), dict(draws=100)) if smoke else ({}, {})
    runs, checks = {}, {}
    for name in ("poisson", "nb"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # posterior collapse in a smoke run
            runs[name] = pgm_expr.fit(adata, likelihood=name, seed=0, progress=False, **quick)
            checks[name] = runs[name].criticize(sections=SECTIONS, **few)
    print(pd.DataFrame({n: figures(t) for n, t in checks.items()}).round(3).to_string())
    table = compare({n: t["health"]["by_cell"]["iwae"] for n, t in checks.items()})
    print("\naz.compare, sums over held-out cells")
    print(table.filter(["rank", "elpd_loo", "elpd", "elpd_diff", "dse"]).round(1).to_string())
    files = pictures(runs, cells=20 if smoke else 100)
    print(f"\nWrote {', '.join(files)}")


if __name__ == "__main__":
    main()
