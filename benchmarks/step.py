"""CPU time of one training step, beside another checkout of this package.

    git worktree add ../before HEAD~1
    python benchmarks/step.py --against ../before

Each checkout has a process of its own, with one thread. The two take turns, block by block: in
its turn a process trains for one epoch of a dozen steps on the same fixed minibatches, and only
the CPU time of that process counts (`time.process_time`). Where objects lie in memory can change
the speed of a process by a few percent, so every round starts two new ones. The ratio of a pair of
blocks is this checkout over the other; the table shows the median over pairs and rounds, with a
95% bootstrap interval in which whole rounds are drawn. Results go to benchmarks/results/step.json.
"""

from __future__ import annotations

import argparse
import itertools
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
COLUMNS = {
    "story": "story",
    "genes": "genes",
    "ms": "ms a step",
    "ms_against": "ms, other checkout",
    "ratio": "ratio",
    "low": "95% from",
    "high": "to",
}
DIMS = {"batches": 2, "conditions": 2, "labels": 8, "perturbations": 3}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    parser.add_argument("--stories", nargs="+", default=["vae", "cvae", "label", "mixture"])
    parser.add_argument("--genes", nargs="+", type=int, default=[765, 2000])
    parser.add_argument("--rounds", type=int, default=8, help="of two new processes")
    parser.add_argument("--pairs", type=int, default=20, help="of blocks, in each round")
    parser.add_argument("--steps", type=int, default=12, help="of a block")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(args.steps)
    if args.against is None:
        parser.error("name the other checkout with --against")
    rows = [*itertools.product(args.stories, args.genes)]
    rounds = [measure(args, rows) for _ in range(args.rounds)]
    found = [summary(*row, np.array([each[row] for each in rounds])) for row in rows]
    line = f"python benchmarks/step.py --against CHECKOUT --rounds {args.rounds}"
    versions = {"version": version("pgm-expr"), "torch": version("torch")}
    head = {"benchmark": "step", "command": f"{line} --pairs {args.pairs}", **versions}
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps({**head, "columns": COLUMNS, "rows": found}, indent=2) + "\n")


def measure(args, rows):
    """Milliseconds a step of both sides, (pairs, 2), of each row, in one round."""
    sides = [Worker(path, args.steps) for path in (HERE.parents[1], args.against)]
    found = {}
    for row in rows:
        for side in sides:
            side.ask(*row)
        pairs = []
        for turn in range(args.pairs):
            order = (0, 1) if turn % 2 else (1, 0)
            seconds = {side: sides[side].ask("block") for side in order}
            pairs.append([seconds[0], seconds[1]])
        found[row] = np.array(pairs) * 1e3 / args.steps
    for side in sides:
        side.close()
    return found


def summary(story, genes, times):
    """One row of the table from times (rounds, pairs, 2), printed too."""
    ratios = times[..., 0] / times[..., 1]  # (rounds, pairs)
    noise = np.random.default_rng(0)
    drawn = noise.integers(len(ratios), size=(2000, len(ratios)))
    low, high = np.quantile(np.median(ratios[drawn], (1, 2)), [0.025, 0.975])
    here, there = np.median(times, (0, 1))
    ratio = float(np.median(ratios))
    print(
        f"{story:18s} {genes:5d} genes  {here:7.3f} ms, against {there:7.3f} ms: "
        f"ratio {ratio:.3f} ({low:.3f} .. {high:.3f})"
    )
    figures = {"ms": here, "ms_against": there, "ratio": ratio, "low": low, "high": high}
    rounded = {name: round(float(value), 4) for name, value in figures.items()}
    return {"story": story, "genes": genes, **rounded}


class Worker:
    """A process that trains with the package of one checkout, a block at a time."""

    def __init__(self, checkout, steps):
        one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(HERE), "--worker", "--steps", str(steps)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=checkout,
            env={**os.environ, **one_thread, "PYTHONPATH": str(Path(checkout).resolve())},
        )
        origin = self.process.stdout.readline().strip()
        if not Path(origin).is_relative_to(Path(checkout).resolve()):
            raise SystemExit(f"{checkout}: the package comes from {origin}")

    def ask(self, *words):
        """CPU seconds of what is done: a story is built and warmed up, or a block is trained."""
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"a worker ended with {self.process.wait()}")
        return float(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def work(steps):
    """Answer the lines of stdin: `vae 765` builds a story, `block` trains it for one epoch."""
    import torch

    import pgm_expr

    torch.set_num_threads(1)
    print(pgm_expr.__file__, flush=True)
    epochs = None
    for line in sys.stdin:
        started = time.process_time()
        if line.strip() != "block":
            story, genes = line.split()
            epochs = training(story, int(genes), steps)
        next(epochs)
        print(time.process_time() - started, flush=True)


def training(story, genes, steps):
    """The epochs of a fit of `steps` minibatches that stay the same."""
    import torch

    from pgm_expr import inference, zoo

    torch.manual_seed(0)
    minibatches = [minibatch(genes) for _ in range(steps)]
    average = minibatches[0]["x"].mean(0) + 0.01
    filled = {"average": average / average.sum(), "examples": minibatches[0]["x"]}
    named = zoo.story(story)
    pair = zoo.build(named, {"genes": genes, **DIMS, **filled})
    objective = named.objective(*pair, cells=CELLS)
    plan = inference.Plan(epochs=10**9, patience=10**9, batch_size=BATCH)
    return inference.fit(objective, lambda seed: minibatches, None, plan)


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
