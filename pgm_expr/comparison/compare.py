"""Fit variants of stories to the same cells and rank their held-out likelihoods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import zoo
from ..data import ARGUMENTS
from ..inference.progress import tally
from ..runs.table import prepare
from ..zoo import Story
from .fits import Work, digest, results
from .grid import Variant, check_settings, variants
from .table import Comparison, tabulate

if TYPE_CHECKING:
    from anndata import AnnData

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
    seeds: int = 3,
    draws: int = 500,
    jobs: int = 1,
    device: str = "auto",
    overwrite: bool = False,
    progress: bool = True,
    **settings: Any,
) -> Comparison:
    """Fit every combination of stories and options, and rank them on the same held-out cells.

    All variants share the split, the budget (`epochs`, `patience`, ... as in `fit`) and, for a
    seed, the initial weights of common parts. A folder keeps one run per variant and seed: when
    repeated, the call resumes, and with more variants or seeds it fits the new ones only.

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
        Number of fits per variant.
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
        `rows`, best first within a measure, with differences to the best, paired over cells (see
        `evaluation.rank`); `to_frame()` returns a DataFrame.

    Raises
    ------
    ValueError
        For two stories of one name, an unknown setting, and a folder that holds a comparison of
        other settings.

    Examples
    --------
    >>> import tempfile
    >>> few = dict(latent=2, hidden=8, epochs=2, seeds=1, draws=5, progress=False)
    >>> with tempfile.TemporaryDirectory() as out:
    ...     done = pgm_expr.compare(adata, likelihoods=["nb", "poisson"], out=out, **few)
    >>> sorted(row["likelihood"] for row in done.rows)
    ['nb', 'poisson']
    """
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
    table = prepare(data, columns, takes=takes, **of_table)
    given = {name: story for name, story in zip(known, stories, strict=True)}
    work = Work(table, given, Path(out), draws, device, settings)
    work.begin(overwrite, {name: digest(story) for name, story in known.items()})
    todo = [(v, seed) for v in wanted if v not in refused for seed in range(seeds)]
    done: dict[Variant, dict[int, Any]] = {}
    for (variant, seed), result in tally(results(work, todo, jobs), todo, show=progress):
        if isinstance(result, str):
            refused[variant] = result
        done.setdefault(variant, {})[seed] = result
    comparison = tabulate(wanted, refused, done, draws)
    comparison.save(work.out)
    return comparison


def _takes(wanted: Sequence[Variant], stories: Mapping[str, Story]) -> str:
    """Counts, unless every variant models log values; others are then refused."""
    kinds = {zoo.takes(stories[variant.story], variant.parts()) for variant in wanted}
    return "values" if kinds == {"values"} else "counts"
