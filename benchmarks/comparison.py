"""Does the winner of `compare` win again on other splits and on other cells?

Variants of `vae` (likelihood, prior, latent size) are fitted to 8 random splits of 600 cells.
Every pair of variants is a case, and a variant against itself with other seeds is a case without
a difference. The rules that declare one of a pair better are:

- one split, beyond 2 standard errors over cells, as version 0.6.0 printed it (`dse`); since 0.7.0
  one split declares nothing;
- 4 splits, beyond 2 of the standard error `se` over cells, seeds and splits;
- 4 splits, not `tie`: the 95% interval by Student's t with 3 degrees of freedom excludes 0.

*Declared* is the share of pairs of which one is declared better. *Wins again* is the share of
these in which the same one is better elsewhere, as the rule says: in another split, in the mean of
the other 4, in the eighth, and for 8 splits in each of them. *Same variant* is the share declared
where there is no difference; it should be at most 0.05. *Winners* are of comparisons of three
variants (all triples): the best on validation cells, declared better than both others on test
cells; *win again* is the share of them that are the best of the three on the test cells elsewhere.
Rows "other cells" compare 5 splits of one part of the cells with 5 splits of disjoint parts: an
independent replication. *sd/se* divides the standard deviation of the difference (over single
splits; over disjoint parts) by the standard error: 1 is right, above 1 the printed error is too
small.

Splits do not show what happens in none of them. In the glioblastoma cells both variants with 3
latent dimensions are 3 to 4 nats worse than usual in one split of eight. The splits without it
declare differences that it does not confirm; all eight together declare none of these.

    PGM_EXPR_DATA=folder python benchmarks/comparison.py [--data NAME ...] [--runs folder]
                         [--out benchmarks/results/comparison.json]
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

import pgm_expr
from pgm_expr.data import load_dataset
from pgm_expr.evaluation import Difference, difference
from pgm_expr.inference import load_tensors

CELLS, SPLITS, HALF, FEWER = 600, 8, 4, 5
GRIDS = {
    10: dict(likelihoods=["nb", "zinb", "poisson"], priors=["normal", "mog"]),
    3: dict(likelihoods=["nb"], priors=["normal", "mog"]),
}
FIT = dict(hidden=64, epochs=60, draws=30, n_top_genes=200, progress=False)
COLUMNS = {
    "data": "data",
    "rule": "rule",
    "pairs": "pairs of variants x splits",
    "declared": "declared",
    "again": "wins again",
    "null": "same variant",
    "winners": "winners",
    "winner": "win again",
    "ratio": "sd/se, median",
    "most": "sd/se, largest",
}
DATA = ["pbmc68k_reduced", "kang_ifnb_2k", "glioblastoma_panobinostat_zhao300g"]
Scores = dict[str, torch.Tensor]
Fits = dict[str, list[list[Scores]]]  # by variant, split and seed
Better = Callable[[Difference], bool]
Place = tuple[tuple[int, ...], tuple[int, ...]]  # splits to decide on, splits to check on
Case = tuple[float, bool, float]  # difference, whether it is declared, difference elsewhere


def beyond(found: Difference) -> bool:
    """The rule of two standard errors; of cells alone where there is one split."""
    error = found.se_cells if found.se is None else found.se
    return abs(found.mean) > 2 * error


def certain(found: Difference) -> bool:
    """The rule of `tie`."""
    return found.certain


def fitted(adata, out: Path, splits: int, seeds: int) -> Fits:
    """Scores of all variants; fits that the folder has are read."""
    found: Fits = {}
    for latent, grid in GRIDS.items():
        folder = out / f"latent-{latent}"
        pgm_expr.compare(
            adata, out=folder, splits=splits, seeds=seeds, latent=latent, **grid, **FIT
        )
        for place in sorted((folder / "runs").iterdir()):
            names = [
                [f"split-{i}-seed-{s}" if i else f"seed-{s}" for s in range(seeds)]
                for i in range(splits)
            ]
            found[f"{place.name}_{latent}"] = [
                [load_tensors(place / name / "heldout.safetensors")[0] for name in of_split]
                for of_split in names
            ]
    return found


def taken(fits: list[list[Scores]], splits, seeds=(0,)) -> list[list[Scores]]:
    """The fits of some splits and seeds."""
    return [[fits[i][s] for s in seeds] for i in splits]


def partitions(size: int) -> list[Place]:
    """Splits to decide on, and all others to check on."""
    every = range(SPLITS)
    heres = itertools.combinations(every, size)
    return [(here, tuple(i for i in every if i not in here)) for here in heres]


def singly(places: list[Place]) -> list[Place]:
    """The same, with each split to check on alone; all of them where all decide."""
    return [(here, (i,)) for here, there in places for i in there or here]


def cases(fits: Fits, places, better: Better) -> Iterator[Case]:
    """Every pair of variants by every place to decide and to check."""
    for (a, b), (here, there) in itertools.product(itertools.combinations(fits, 2), places):
        found = difference(taken(fits[a], here), taken(fits[b], here))
        elsewhere = difference(taken(fits[a], there), taken(fits[b], there))
        yield found.mean, better(found), elsewhere.mean


def null_cases(fits: Fits, places, better: Better) -> list[bool]:
    """Whether a variant is declared better than itself with other seeds."""
    heres = dict.fromkeys(here for here, _ in places)
    return [
        better(difference(taken(own, here), taken(own, here, (1,))))
        for own in fits.values()
        for here in heres
        if len(own[0]) > 1
    ]


def winners(fits: Fits, places, better: Better) -> Iterator[bool]:
    """Whether the declared winner of three variants is the best of them elsewhere."""
    for here, there in places:
        chosen = {name: _mean(taken(own, here), "validation") for name, own in fits.items()}
        elsewhere = {name: _mean(taken(own, there), "iwae_4k") for name, own in fits.items()}
        wins = {
            (a, b): _wins(fits, a, b, here, better) for a, b in itertools.permutations(fits, 2)
        }
        for three in itertools.combinations(fits, 3):
            first = max(three, key=chosen.__getitem__)
            if all(wins[first, other] for other in three if other != first):
                yield max(three, key=elsewhere.__getitem__) == first


def _wins(fits: Fits, one: str, other: str, here, better: Better) -> bool:
    found = difference(taken(fits[one], here), taken(fits[other], here))
    return better(found) and found.mean > 0


def _mean(fits: list[list[Scores]], key: str) -> float:
    return float(np.mean([[one[key].mean().item() for one in split] for split in fits]))


def ratios(fits: Fits) -> list[float]:
    """Spread of each difference over single splits by the error that one of them prints."""
    found = []
    for a, b in itertools.combinations(fits, 2):
        each = [difference(taken(fits[a], [i]), taken(fits[b], [i])) for i in range(SPLITS)]
        error = np.sqrt(np.mean([one.se_cells**2 for one in each]))
        found.append(float(np.std([one.mean for one in each], ddof=1) / error))
    return found


def row(data: str, rule: str, found: list[Case], *, null=(), won=(), spread=()) -> dict:
    """One row of the table, from cases, cases without a difference, winners and ratios."""
    again = [(here > 0) == (there > 0) for here, declared, there in found if declared]
    return {
        "data": data,
        "rule": rule,
        "pairs": len(found),
        "declared": len(again) / len(found),
        "again": _share(again),
        "null": _share(null),
        "winners": len(won) or "",
        "winner": _share(won),
        "ratio": float(np.median(spread)) if spread else "",
        "most": max(spread, default=""),
    }


def _share(yes) -> float | str:
    return float(np.mean(yes)) if yes else ""


def of_splits(data: str, fits: Fits) -> Iterator[dict]:
    """Rows of one set of cells."""
    one, half, most, everything = map(partitions, (1, HALF, SPLITS - 1, SPLITS))
    for rule, places, better in (
        ("one split, 2 se of cells; another split", singly(one), beyond),
        ("4 splits, 2 se; another split", singly(half), beyond),
        ("4 splits, not tie; another split", singly(half), certain),
        ("4 splits, 2 se; mean of the other 4", half, beyond),
        ("4 splits, not tie; mean of the other 4", half, certain),
        ("7 splits, 2 se; the eighth", most, beyond),
        ("7 splits, not tie; the eighth", most, certain),
        ("8 splits, 2 se; one of them", singly(everything), beyond),
        ("8 splits, not tie; one of them", singly(everything), certain),
    ):
        found = [*cases(fits, places, better)]
        null, won = null_cases(fits, places, better), [*winners(fits, places, better)]
        spread = ratios(fits) if rule.startswith("one") else ()
        yield row(data, rule, found, null=null, won=won, spread=spread)


def of_parts(data: str, parts: list[Fits]) -> Iterator[dict]:
    """Rows of disjoint parts of the cells, each with splits of its own."""
    own = range(FEWER)
    gaps = {
        (a, b): [difference(taken(p[a], own), taken(p[b], own)) for p in parts]
        for a, b in itertools.combinations(parts[0], 2)
    }
    spread = [
        float(np.std([g.mean for g in each], ddof=1) / np.sqrt(np.mean([g.se**2 for g in each])))
        for each in gaps.values()
    ]
    for rule, better in (("other cells, 2 se", beyond), ("other cells, not tie", certain)):
        found = [
            (here.mean, better(here), there.mean)
            for each in gaps.values()
            for here, there in itertools.permutations(each, 2)
        ]
        yield row(data, rule, found, spread=spread)


def measured(data: str, runs: Path) -> Iterator[dict]:
    """All rows of a data set; its first 600 cells in random order are split 8 times."""
    adata = load_dataset(data)
    order = np.random.default_rng(0).permutation(adata.n_obs)
    number = min(3, adata.n_obs // CELLS)
    parts = [adata[order[CELLS * i : CELLS * (i + 1)]].copy() for i in range(number)]
    first = fitted(parts[0], runs / data / "part-0", SPLITS, seeds=2)
    yield from of_splits(data, first)
    others = [
        fitted(part, runs / data / f"part-{i}", FEWER, seeds=1)
        for i, part in enumerate(parts[1:], 1)
    ]
    if others:
        yield from of_parts(data, [first, *others])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=DATA)
    parser.add_argument("--runs", type=Path, help="where fits are kept; a second call reads them")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where figures are kept, as JSON")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for data in args.data for row in measured(data, args.runs or Path(folder))]
    for each in rows:
        each |= {key: round(v, 3) for key, v in each.items() if isinstance(v, float)}
        print("  ".join(f"{key} {value}" for key, value in each.items()), flush=True)
    if args.out:
        found = {
            "benchmark": "comparison",
            "command": f"python benchmarks/comparison.py --data {' '.join(args.data)}",
            "version": pgm_expr.__version__,
            "columns": COLUMNS,
            "rows": rows,
        }
        args.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
