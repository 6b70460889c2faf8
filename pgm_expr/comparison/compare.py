"""Fit variants of stories to the same cells and table their held-out likelihoods."""

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
    """Fit every combination, `seeds` times each, and rank them on the same held-out cells.

    All variants share the split, the budget (`epochs`, `patience`, ... as in `fit`) and, for a
    seed, the initial weights of the parts they share. No objective, likelihood, prior or
    posterior given means the story's own. What does not go together stands there as refused.

    Held-out likelihood is the importance-weighted bound at K = `draws` and 4 K. Differences go
    to the best variant of the same measure, paired over cells; see `evaluation.compare`.

    `out` keeps one run a variant and seed: repeated, the call goes on where it was, and with
    more variants or seeds it fits the new ones only. Other settings are refused (ValueError)
    unless `overwrite`. `jobs` fits run at a time, each in a process of its own.
    `settings` are those of `fit`: columns of obs, genes, split, training and the story.
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
    work = Work(
        table,
        {name: story for name, story in zip(known, stories, strict=True)},
        Path(out),
        draws,
        device,
        settings,
    )
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
    """Counts, unless every variant is about log values; the others are then refused."""
    kinds = {zoo.takes(stories[variant.story], variant.parts()) for variant in wanted}
    return "values" if kinds == {"values"} else "counts"
