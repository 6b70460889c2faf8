"""How often does a report call a true story not good, and a bad story bad?

A story is fitted and then taken as the truth: cells of the fit and held-out cells are both drawn
from it, with the libraries and batches of the cells that it was fitted to. Labels follow from
the true state of a cell. A sentence of such a report that is not good is a false alarm. Each
sentence states a rate of at most 2%, all together 20%.

    exact    one latent dimension, whose posterior is exact on a grid: all sentences
    slept    four latent dimensions, with a guide recalibrated on drawn cells (`Run.sleep`): the
             sentences about the model, as the guide is still approximate; half as many reports

`most` is the largest number of false alarms at a rate of 5% (of 20% for any sentence), with
probability 97.5%. Bad stories of simulated cells with two batches follow: their numbers of bad
and doubtful sentences.

    python benchmarks/verdicts.py [--cheap 200] [--dear 40] [--held-out 150]
                                  [--out benchmarks/results/verdicts.json]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from scipy.sparse import csr_array
from scipy.stats import binom
from torch import nn

import pgm_expr
from pgm_expr.criticism.held_out import HeldOut
from pgm_expr.criticism.section import GOOD
from pgm_expr.criticism.sections import SECTIONS
from pgm_expr.criticism.verdict import verdict
from pgm_expr.data import Cells
from pgm_expr.inference import seeded
from pgm_expr.inference.tracing import call
from pgm_expr.runs.simulated_covariates import draw_covariates, missing_entries
from pgm_expr.runs.subset import Subset
from pgm_expr.simulate import simulate

JUDGED = {section.name: section for section in SECTIONS if callable(section.judge)}
DEAR = ("calibration", "structure", "health", "reference")
GUIDE = ("health", "reference", "sbc")
KEYS = {"labels_key": "type", "batch_key": "batch"}
COLUMNS = {
    "story": "story",
    "what": "sentence",
    "n": "reports",
    "alarms": "not good",
    "share": "share",
    "most": "most at 5%",
    "bad": "bad sentences",
    "doubtful": "doubtful sentences",
}
BAD = {
    "batch given": ("cvae", {}),
    "one latent dimension": ("cvae", {"latent": 1}),
    "Poisson likelihood": ("cvae", {"likelihood": "poisson"}),
    "beta 20": ("cvae", {"beta": 20.0}),
    "2 epochs": ("cvae", {"epochs": 2}),
    "batch ignored": ("vae", {}),
}


class OnGrid(dist.MixtureSameFamily):
    """Narrow normals at the points of a grid; NUTS and refinement need its support."""

    support = dist.constraints.independent(dist.constraints.real, 1)


class GridGuide(nn.Module):
    """The exact posterior of a one-dimensional state of the story `vae`, on a grid."""

    def __init__(self, model: nn.Module, points: int = 120) -> None:
        super().__init__()
        self.borrowed, self.kept = (model,), {}
        self.grid = torch.linspace(-4, 4, points)

    def forward(self, library: torch.Tensor, x: torch.Tensor) -> None:
        logits, spacing = self.weights(library, x), (self.grid[1] - self.grid[0]) / 2
        with pyro.plate("cells", len(library)):
            points = self.grid[:, None].expand(len(library), -1, 1)
            each = dist.Normal(points, spacing).to_event(1)
            pyro.sample("z", OnGrid(dist.Categorical(logits=logits), each))

    def weights(self, library: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """log p(x, z) at the points, (N, P); kept, as a section asks for the same cells often."""
        key = x.numpy().tobytes(), library.numpy().tobytes()
        if key not in self.kept:
            if len(self.kept) > 30:
                self.kept.clear()
            parts = [self.joint(library, x, z) for z in self.grid.split(30)]
            self.kept[key] = torch.cat(parts).T
        return self.kept[key]

    @torch.no_grad()
    def joint(self, library: torch.Tensor, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """log p(x, z) of each point of the grid, (P, N)."""
        many = {"library": library.repeat(len(z), 1), "x": x.repeat(len(z), 1)}
        states = {"z": z.repeat_interleave(len(x))[:, None]}
        with poutine.block(), poutine.condition(data=states), poutine.trace() as recorded:
            self.borrowed[0](**many)
        sites = (recorded.trace.nodes[name] for name in ("z", "x"))
        return sum(site["fn"].log_prob(site["value"]) for site in sites).view(len(z), len(x))


def truths(sleep):
    """Fitted stories that are the truth from then on, and what part of the reports each gets."""
    adata = simulate(2000, 50, seed=0, types=4, batches=2).to_anndata()
    sizes = dict(epochs=60, progress=False, **KEYS)
    one = pgm_expr.fit(adata, "vae", latent=1, **sizes)
    yield "exact", dataclasses.replace(one, guide=GridGuide(one.model)), list(JUDGED), 1
    four = pgm_expr.fit(adata, "vae", latent=4, **sizes)
    four.sleep(sleep, progress=False)
    yield "slept", four, [name for name in JUDGED if name not in GUIDE], 2


def drawn(run, held_out, seed, labels=3):
    """Held-out cells, and four times as many cells of the fit, drawn from the story of a run."""
    n = 5 * held_out
    library, covariates = draw_covariates(run.notes, n, {}, np.random.default_rng(seed))
    rows = {"library": library, **missing_entries(n), **covariates}
    batch = {name: torch.as_tensor(value) for name, value in rows.items()}
    batch["library"] = batch["library"].float().view(-1, 1)
    with seeded(seed), torch.no_grad(), poutine.trace() as recorded:
        call(run.model.eval(), batch)
    x, z = (recorded.trace.nodes[name]["value"].numpy() for name in ("x", "z"))
    places = np.random.default_rng(5).normal(size=(z.shape[1], labels))
    offsets = np.linspace(-0.4, 0.4, labels) if z.shape[1] == 1 else 0.0
    columns = {**covariates, "label": (z @ places + offsets).argmax(1)}
    cells = Cells(csr_array(x), columns, run.notes["genes"])
    index = np.arange(n)
    return HeldOut(run, Subset(cells, index[:held_out]), Subset(cells, index[held_out:]), 200)


def report(on, names):
    """Marks by section; a section that these cells do not allow has none."""
    marks = {}
    for name in names:
        try:
            with seeded(on.seed):
                sentence = JUDGED[name].judge(JUDGED[name].measure(on))
        except ValueError as error:
            print(f"{name}: {error}", flush=True)
            continue
        if sentence:
            marks[name] = sentence.mark
            if sentence.mark != GOOD:
                print(f"{name}: {sentence.mark}. {sentence.text}", flush=True)
    return marks


def false_alarms(story, run, names, cheap, dear, held_out):
    """A row a sentence, and one of any sentence."""
    count, alarms, whole, any_of = Counter(), Counter(), 0, 0
    for seed in range(cheap):
        all_of_them = seed < dear
        some = [name for name in names if all_of_them or name not in DEAR]
        marks = report(drawn(run, held_out, 1000 + seed), some)
        count.update(marks.keys())
        off = [name for name, mark in marks.items() if mark != GOOD]
        alarms.update(off)
        whole += all_of_them
        any_of += all_of_them and bool(off)
        if seed % 10 == 9:
            print(f"{story}: {seed + 1} reports, not good: {dict(alarms)}", flush=True)
    rows = [row(story, name, count[name], alarms[name], 0.05) for name in names]
    return [*rows, row(story, "any", whole, any_of, 0.2)]


def row(story, what, n, alarms, rate):
    """One line of the table."""
    share = round(alarms / max(n, 1), 3)
    most = int(binom.ppf(0.975, n, rate))
    return dict(story=story, what=what, n=n, alarms=alarms, share=share, most=most)


def bad_stories():
    """A row a story of the same cells: how many sentences are bad and doubtful."""
    adata = simulate(2000, 150, seed=1, types=4, batches=2).to_anndata()
    for name, (story, options) in BAD.items():
        settings = {"epochs": 80, "latent": 8, **KEYS, **options}
        run = pgm_expr.fit(adata, story, progress=False, **settings)
        found = run.criticize(cells=300, draws=200, progress=False)
        marks = {s.text.split(":")[0]: s.mark for s in verdict(found)}
        print(f"{name}: {marks}", flush=True)
        topics = {m: ", ".join(t for t, mark in marks.items() if mark == m) for m in MARKS}
        yield {"story": name, "n": 1, **topics}


MARKS = ("bad", "doubtful")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cheap", type=int, default=200, help="reports, without dear sentences")
    parser.add_argument("--dear", type=int, default=40, help="reports of all sentences")
    parser.add_argument("--held-out", type=int, default=150, help="held-out cells of a report")
    parser.add_argument("--sleep", type=int, default=8000, help="steps of `Run.sleep`")
    parser.add_argument("--stories", nargs="+", default=["exact", "slept", "bad"])
    parser.add_argument("--out", type=Path, metavar="FILE", help="where figures are kept, as JSON")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    started, rows = time.process_time(), []
    for story, run, names, part in truths(args.sleep):
        if story in args.stories:
            sizes = args.cheap // part, args.dear // part, args.held_out
            rows += false_alarms(story, run, names, *sizes)
    if "bad" in args.stories:
        rows += bad_stories()
    for each in rows:
        print(each)
    print(f"{time.process_time() - started:.0f} s of CPU time")
    if args.out:
        args.out.parent.mkdir(exist_ok=True)
        args.out.write_text(json.dumps(results(rows, args), indent=2) + "\n")


def results(rows, args):
    """Rows with the command and version that they are of."""
    sizes = f"--cheap {args.cheap} --dear {args.dear} --held-out {args.held_out}"
    return {
        "benchmark": "verdicts",
        "command": f"python benchmarks/verdicts.py {sizes}",
        "version": pgm_expr.__version__,
        "columns": COLUMNS,
        "rows": rows,
    }


if __name__ == "__main__":
    main()
