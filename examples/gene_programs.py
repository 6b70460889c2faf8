"""Which pathways are co-regulated, and does a fit recover the simulated programs?

python examples/gene_programs.py [--smoke]

Simulates counts with gene sets: five pathways depend on each of three programs, and some genes are
in no set. Fits the story `ladder` (gene, pathway, program) with these gene sets, and prints each
program with the pathways that correlate with it most. Programs are identified up to sign and
rotation; the figures of the last lines do not depend on either.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import replace

import numpy as np

import pgm_expr
from pgm_expr.simulate import Scales, simulate

PROGRAMS = ["immune", "growth", "stress"]
PATHWAYS = 5  # of each program
SIZE = 8  # genes of a pathway
SHARE = 0.7  # of the variance of a pathway that its program explains


def simulated(cells: int, others: int):
    """Cells as AnnData, the genes of each pathway, and activities of all pathways (N, S)."""
    rng = np.random.default_rng(0)
    names = [f"{program} {k + 1}" for program in PROGRAMS for k in range(PATHWAYS)]
    genes = len(names) * SIZE + others
    program = np.repeat(rng.normal(size=(cells, len(PROGRAMS))), PATHWAYS, axis=1)  # (N, S)
    activity = SHARE**0.5 * program + (1 - SHARE) ** 0.5 * rng.normal(size=program.shape)
    member = np.arange(genes) // SIZE == np.arange(len(names))[:, None]  # (S, G)
    sizes = dict(types=1, latent=len(names), median_library=2000.0)
    truth = simulate(cells, genes, seed=0, **sizes, scales=Scales(base=0.7, type=0.0))
    loadings = rng.uniform(0.3, 0.9, member.shape) * member
    truth = replace(truth, z=activity, loadings=loadings)
    adata = replace(truth, x=truth.draw(1)).to_anndata()
    sets = {name: adata.var_names[row].tolist() for name, row in zip(names, member, strict=True)}
    return adata, sets, activity


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few epochs, figures mean nothing")
    smoke = parser.parse_args().smoke
    adata, sets, activity = simulated(*((200, 20) if smoke else (1200, 60)))
    quick = dict(epochs=3) if smoke else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # posterior collapse in a smoke run
        run = pgm_expr.fit(adata, "ladder", gene_sets=sets, progress=False, **quick)

    names = np.array(list(sets))
    programs = run.model.programs.detach().cpu().numpy()[:, : len(names)]  # (D, S) correlations
    for d in np.argsort(-np.square(programs).mean(1)):
        top = np.argsort(-abs(programs[d]))[:PATHWAYS]
        pathways = ", ".join(f"{names[s]} {programs[d, s]:+.2f}" for s in top)
        share = np.square(programs[d]).mean()
        print(f"program {d + 1}   {share:5.1%} of the variance of pathways: {pathways}")

    group = np.arange(len(names)) // PATHWAYS
    same = np.equal.outer(group, group)
    together = programs.T @ programs  # correlations of pathways through programs
    within = together[same & ~np.eye(len(names), dtype=bool)].mean()
    across = together[~same].mean()
    print(f"pathways of one program    mean correlation {within:+.2f}, simulated +{SHARE:.2f}")
    print(f"pathways of two programs   mean correlation {across:+.2f}, simulated +0.00")
    found = run.embed(adata)[:, len(programs) :]  # (N, S), the unannotated pathways last
    r = [np.corrcoef(found[:, s], activity[:, s])[0, 1] for s in range(len(names))]
    print(f"inferred and simulated activities   median r {np.median(r):.2f}")


if __name__ == "__main__":
    main()
