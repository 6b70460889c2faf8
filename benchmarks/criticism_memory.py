"""Peak memory and wall time of `run.criticize` on 100,000 simulated cells x 2,000 genes.

A short fit is saved; then a separate process loads the run and the data and criticises it.

    python benchmarks/criticism_memory.py [--cells 100000] [--genes 2000] [--folder runs/memory]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import pgm_expr
from pgm_expr.simulate import simulate


def fit(folder, cells, genes):
    """Write a file of cells, and a run of two epochs on it."""
    data = folder / "cells.h5ad"
    if not data.exists():
        truth = simulate(cells, genes, seed=0, types=8, batches=2, median_library=2000.0)
        truth.to_anndata().write_h5ad(data)
    pgm_expr.fit(
        data,
        labels_key="type",
        batch_key="batch",
        epochs=2,
        batch_size=512,
        out=folder / "run",
        overwrite=True,
        progress=False,
    )


def criticize(folder):
    """Print memory and time of this process, which does nothing else."""
    started = time.monotonic()
    checks = pgm_expr.load(folder / "run").criticize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{checks['cells']} held-out cells, not measured: {checks['not_measured']}")
    print(f"peak memory {peak:.2f} GiB, wall time {time.monotonic() - started:.0f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--folder", type=Path, default=Path("runs/memory"))
    parser.add_argument("--only", action="store_true", help="Criticise the run in the folder.")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.only:
        return criticize(args.folder)
    fit(args.folder, args.cells, args.genes)
    line = [sys.executable, "-W", "ignore", __file__, "--only", "--folder", args.folder]
    return subprocess.run(line, check=True)


if __name__ == "__main__":
    main()
