"""CPU time of one training step, beside another checkout of this package.

    git worktree add /tmp/before HEAD~1
    python benchmarks/step.py --against /tmp/before

Each checkout has a process of its own, with one thread. The two take turns, block by block: in its
turn a process trains for one epoch of a dozen steps on the same fixed minibatches, and only the
CPU time of that process counts (`time.process_time`). The ratio of a pair of blocks is this
checkout over the other; the table shows the median over the pairs with a 95% bootstrap interval.
Results go to benchmarks/results/step.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve()
RESULTS = HERE.parent / "results" / "step.json"
BATCH, CELLS = 64, 10_000
DIMS = {"batches": 2, "conditions": 2, "labels": 8, "perturbations": 3}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    parser.add_argument("--stories", nargs="+", default=["vae", "cvae", "label", "mixture"])
    parser.add_argument("--genes", nargs="+", type=int, default=[765, 2000])
    parser.add_argument("--pairs", type=int, default=150, help="of blocks, for each row")
    parser.add_argument("--steps", type=int, default=12, help="of a block")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--worker", nargs=3, metavar=("STORY", "GENES", "STEPS"))
    args = parser.parse_args()
    if args.worker:
        story, genes, steps = args.worker
        return work(story, int(genes), int(steps))
    if args.against is None:
        parser.error("name the other checkout with --against")
    rows = [row(args, story, genes) for genes in args.genes for story in args.stories]
    line = f"python benchmarks/step.py --against CHECKOUT --pairs {args.pairs}"
    versions = {"version": version("pgm-expr"), "torch": version("torch")}
    head = {"benchmark": "step", "command": f"{line} --steps {args.steps}", **versions}
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps({**head, "rows": rows}, indent=2) + "\n")


def row(args, story, genes):
    """Measure one story at one number of genes, and print it."""
    sides = [Worker(path, story, genes, args.steps) for path in (HERE.parents[1], args.against)]
    pairs = []
    for turn in range(args.pairs):
        order = (0, 1) if turn % 2 else (1, 0)
        seconds = {side: sides[side].block() for side in order}
        pairs.append([seconds[0], seconds[1]])
    for side in sides:
        side.close()
    here, there = np.array(pairs).T * 1e3 / args.steps
    low, high = interval(here / there)
    found = {
        "story": story,
        "genes": genes,
        "ms": round(float(np.median(here)), 4),
        "ms_against": round(float(np.median(there)), 4),
        "ratio": round(float(np.median(here / there)), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "pairs": args.pairs,
    }
    print(
        f"{story:18s} {genes:5d} genes  {found['ms']:7.3f} ms, against {found['ms_against']:7.3f} "
        f"ms: ratio {found['ratio']:.3f} ({low:.3f} .. {high:.3f})",
        flush=True,
    )
    return found


def interval(ratios):
    """95% bootstrap interval of the median."""
    noise = np.random.default_rng(0)
    drawn = noise.choice(ratios, (2000, len(ratios)))
    return [float(q) for q in np.quantile(np.median(drawn, 1), [0.025, 0.975])]


class Worker:
    """A process that trains with the package of one checkout, a block at a time."""

    def __init__(self, checkout, story, genes, steps):
        line = [sys.executable, str(HERE), "--worker", story, str(genes), str(steps)]
        one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            line,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=checkout,
            env={**os.environ, **one_thread, "PYTHONPATH": str(Path(checkout).resolve())},
        )
        origin = self.process.stdout.readline().strip()
        if not Path(origin).is_relative_to(Path(checkout).resolve()):
            raise SystemExit(f"{checkout}: the package comes from {origin}")
        self.block()  # imports, allocator, caches

    def block(self):
        """CPU seconds of one block."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def work(story, genes, steps):
    """Train for one epoch of `steps` steps a line of stdin; print its CPU seconds."""
    import torch

    import pgm_expr
    from pgm_expr import inference, zoo

    torch.set_num_threads(1)
    print(pgm_expr.__file__, flush=True)
    torch.manual_seed(0)
    minibatches = [minibatch(genes) for _ in range(steps)]
    average = minibatches[0]["x"].mean(0) + 0.01
    filled = {"average": average / average.sum(), "examples": minibatches[0]["x"]}
    named = zoo.story(story)
    pair = zoo.build(named, {"genes": genes, **DIMS, **filled})
    objective = named.objective(*pair, cells=CELLS)
    plan = inference.Plan(epochs=10**9, patience=10**9, batch_size=BATCH)
    rows = inference.fit(objective, lambda seed: minibatches, None, plan)
    for _ in sys.stdin:
        started = time.process_time()
        next(rows)
        print(time.process_time() - started, flush=True)


def minibatch(genes):
    """Sparse counts, about one entry in ten positive, and every entry that a story may name."""
    import torch

    rate = torch._standard_gamma(torch.full((genes,), 0.3)) * 0.4
    x = torch.poisson(torch._standard_gamma(torch.ones(BATCH, genes)) * rate)
    x[:, 0] += 1
    levels = torch.arange(BATCH)
    return {
        "x": x,
        "library": x.sum(-1, keepdim=True),
        "condition": torch.eye(DIMS["conditions"])[levels % DIMS["conditions"]],
        "batch": levels % DIMS["batches"],
        "label": torch.where(levels % 3 == 0, -1, levels % DIMS["labels"]),
        "perturbation": torch.eye(DIMS["perturbations"])[levels % DIMS["perturbations"]],
        "target": torch.randn(BATCH, 1),
    }


if __name__ == "__main__":
    main()
