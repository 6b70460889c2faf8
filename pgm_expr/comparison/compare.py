"""Fit variants of stories to the same cells and rank their held-out likelihoods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import zoo
from ..data import ARGUMENTS
from ..inference.progress import tally
from ..runs.table import Table, prepare
from ..zoo import Story
from .fits import Work, digest, results
from .grid import Variant, check_settings, variants
from .table import Comparison, tabulate

if TYPE_CHECKING:
    from anndata import AnnData

TRIES = 10  # seeds tried per split: few donors give the same test set again
OF_TABLE = ("layer", "split_seed", "min_cells", "n_top_genes", "gene_sets")


def compare(
    data: AnnData | str | Path,
    stories: Sequence[str | Path | Story] = ("vae",),
    *,
    out: str | Path,
    objectives: Sequence[str] = (),
    betas: Sequence[float] = (1.0,),
    likelihoods: Sequence[str] = (),
    priors: Sequence[str] = (),
    posteriors: Sequence[str] = (),
    seeds: int = 1,
    splits: int = 5,
    draws: int = 500,
    jobs: int = 1,
    device: str = "auto",
    overwrite: bool = False,
    progress: bool = True,
    **settings: Any,
) -> Comparison:
    """Fit every combination of stories and options, and rank them on the same held-out cells.

    All variants share the splits, the budget (`epochs`, `patience`, ... as in `fit`) and, for a
    seed, the initial weights of common parts. The order is that of validation cells; differences
    are of test cells. A folder keeps one run per variant, split and seed: when repeated, the call
    resumes, and with more variants, splits or seeds it fits the new ones only.

    Parameters
    ----------
    data
        Cells, as for `fit`.
    stories
        Names of stories, files of user-defined ones, or `Story` objects.
    out
        Folder of the comparison.
    objectives, likelihoods, priors, posteriors
        Names; by default each story's own. Combinations that are impossible are listed as refused.
    betas
        Weights of the KL.
    seeds
        Number of fits per variant and split. One is enough for the total standard error; two or
        more separate seeds from splits in it.
    splits
        Number of splits: by `split_seed`, `split_seed + 1`, ..., without repeated test sets. With
        one split there is no total standard error, and no variant is better or tied.
    draws
        K of the importance-weighted bound, which is estimated at K and 4 K.
    jobs
        Number of fits at a time, each in a process of its own.
    device
        "auto", "cpu", "cuda", ...
    overwrite
        Replace a comparison of other settings.
    progress
        Show a bar on stderr.
    settings
        As for `fit`: columns of obs, genes, split, training and options of stories.

    Returns
    -------
    Comparison
        `rows`, best on validation cells first within a measure, with differences to the first,
        paired over cells, and their standard errors over cells, seeds and splits (see
        `evaluation.rank`); `to_frame()` returns a DataFrame.

    Raises
    ------
    ValueError
        For two stories of one name, an unknown setting, no seed or split, and a folder that holds
        a comparison of other settings or another version.

    Examples
    --------
    >>> import tempfile
    >>> few = dict(latent=2, hidden=8, epochs=2, splits=2, draws=5, progress=False)
    >>> with tempfile.TemporaryDirectory() as out:
    ...     done = pgm_expr.compare(adata, likelihoods=["nb", "poisson"], out=out, **few)
    >>> sorted(row["likelihood"] for row in done.rows)
    ['nb', 'poisson']

    References
    ----------
    Nadeau and Bengio, Machine Learning 2003, https://doi.org/10.1023/A:1024068626366
    """
    for name, number in (("seeds", seeds), ("splits", splits)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1: got {number}.")
    known = dict(map(zoo.find_story, stories))
    if len(known) < len(stories):
        raise ValueError(f"stories must have different names: got {', '.join(known)}. Rename one.")
    wanted = variants([*known], objectives, betas, likelihoods, priors, posteriors)
    takes = _takes(wanted, known)
    columns = {key: settings.pop(key) for key in ARGUMENTS if key in settings}
    of_table = {key: settings.pop(key) for key in OF_TABLE if key in settings}
    reasons = {v: v.refusal(known[v.story], takes, settings) for v in wanted}
    refused = {variant: why for variant, why in reasons.items() if why}
    check_settings(settings, [v for v in wanted if v not in refused], known)
    tables = _tables(data, columns, splits, takes=takes, **of_table)
    given = {name: story for name, story in zip(known, stories, strict=True)}
    work = Work(tables, given, Path(out), draws, device, settings)
    work.begin(overwrite, {name: digest(story) for name, story in known.items()})
    fitted = [variant for variant in wanted if variant not in refused]
    todo = [*product(fitted, range(splits), range(seeds))]
    done = dict(tally(results(work, todo, jobs), todo, show=progress))
    refused |= {job[0]: result for job, result in done.items() if isinstance(result, str)}
    scored = {job: result for job, result in done.items() if not isinstance(result, str)}
    fits = {
        variant: [[scored[variant, i, seed] for seed in range(seeds)] for i in range(splits)]
        for variant in fitted
        if variant not in refused
    }
    comparison = tabulate(fits, refused, draws, _ratio(tables))
    comparison.save(work.out)
    return comparison


def _tables(
    data: AnnData | str | Path,
    columns: Mapping[str, Any],
    splits: int,
    *,
    split_seed: int = 0,
    **of_table: Any,
) -> list[Table]:
    """One table per split, each with the genes and levels of its training cells."""
    tables: list[Table] = []
    for seed in range(split_seed, split_seed + TRIES * splits):
        table = prepare(data, columns, split_seed=seed, **of_table)
        if not any(np.array_equal(table.split.test, other.split.test) for other in tables):
            tables.append(table)
        if len(tables) == splits:
            return tables
    raise ValueError(
        f"splits={splits}: the donors give {len(tables)} different test sets. "
        f"Pass splits={len(tables)} or fewer."
    )


def _ratio(tables: Sequence[Table]) -> float:
    """Test cells per training cell, over all splits."""
    return sum(len(t.split.test) for t in tables) / sum(len(t.split.train) for t in tables)


def _takes(wanted: Sequence[Variant], stories: Mapping[str, Story]) -> str:
    """Counts, unless every variant models log values; others are then refused."""
    kinds = {zoo.takes(stories[variant.story], variant.parts()) for variant in wanted}
    return "values" if kinds == {"values"} else "counts"
