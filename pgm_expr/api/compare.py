"""Fit variants of stories to the same cells and table their held-out likelihoods."""

from __future__ import annotations

import json
import multiprocessing
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import evaluation, report, zoo
from ..data import Columns, sweep
from ..inference import load_tensors, save_tensors, write_atomically
from ..zoo import Story
from .fit import fit_table
from .folder import MODEL, as_csv
from .load import load
from .run import SWEEP, Run
from .table import Table, prepare
from .variants import Variant, check_settings, variants

if TYPE_CHECKING:
    from anndata import AnnData

HELD_OUT, SETTINGS = "heldout.safetensors", "settings.json"
CSV, JSON, PICTURE = "comparison.csv", "comparison.json", "comparison.png"
COLUMNS = (
    "story objective beta likelihood prior posterior seeds heldout_elbo heldout_elbo_sd "
    "heldout_iwae heldout_iwae_sd heldout_iwae_4k heldout_iwae_4k_sd diff dse diff_sd tie "
    "kl kl_sd active_units probe_macro_f1 probe_macro_f1_sd seconds measure collapsed refused"
).split()
OF_COLUMNS = tuple(Columns.__dataclass_fields__)
OF_TABLE = ("layer", "split_key", "split_seed", "min_cells", "n_top_genes", "gene_sets")


@dataclass(frozen=True)
class Comparison:
    """The table, best first within a measure, and what it says about zero inflation."""

    rows: list[dict[str, Any]]
    zero_inflation: str | None = None
    draws: int = 500

    def to_frame(self) -> Any:
        """The rows as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=COLUMNS)

    def save(self, folder: Path) -> None:
        """Write comparison.csv, comparison.json and comparison.png."""
        write_atomically(folder / CSV, as_csv(self.rows, COLUMNS))
        whole = {"rows": self.rows, "zero_inflation": self.zero_inflation, "draws": self.draws}
        write_atomically(folder / JSON, json.dumps(whole, indent=1).encode())
        write_atomically(folder / PICTURE, report.comparison_picture(self.rows))


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
    columns = Columns(**{key: settings.pop(key) for key in OF_COLUMNS if key in settings})
    of_table = {key: settings.pop(key) for key in OF_TABLE if key in settings}
    reasons = {v: v.refusal(known[v.story], takes, settings) for v in wanted}
    refused = {variant: why for variant, why in reasons.items() if why}
    check_settings(settings, [v for v in wanted if v not in refused], known)
    table = prepare(data, columns, takes=takes, **of_table)
    work = _Work(table, dict(zip(known, stories, strict=True)), Path(out), draws, device, settings)
    work.begin(overwrite, {name: _digest(story) for name, story in known.items()})
    todo = [(v, seed) for v in wanted if v not in refused for seed in range(seeds)]
    done: dict[Variant, dict[int, Any]] = {}
    for (variant, seed), result in report.tally(_results(work, todo, jobs), todo, show=progress):
        if isinstance(result, str):
            refused[variant] = result
        done.setdefault(variant, {})[seed] = result
    comparison = _comparison(wanted, refused, done, draws)
    comparison.save(work.out)
    return comparison


@dataclass(frozen=True)
class _Work:
    """All that the fits share."""

    table: Table
    stories: Mapping[str, str | Story]
    out: Path
    draws: int
    device: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def begin(self, overwrite: bool, hashes: Mapping[str, str]) -> None:
        """Make the folder, or refuse one that holds something else."""
        same = json.loads(
            json.dumps(
                {
                    "source": self.table.source,
                    "draws": self.draws,
                    "settings": dict(self.settings),
                    "columns": asdict(self.table.encoding.columns),
                    "gene_sets": self.table.gene_sets,
                    "stories": dict(hashes),
                }
            )
        )
        place = self.out / SETTINGS
        if self.out.exists() and any(self.out.iterdir()) and not overwrite:
            _refuse_other(place, same)
            same["stories"] = json.loads(place.read_text())["stories"] | same["stories"]
        if overwrite:
            for old in (self.out / "runs").glob("*/*/*"):
                old.unlink()
        self.out.mkdir(parents=True, exist_ok=True)
        write_atomically(place, json.dumps(same, indent=1).encode())

    def run(self, variant: Variant, seed: int) -> tuple[dict[str, Tensor], dict] | str:
        """The scores of one fit, from its folder where they are there; why not, as a sentence."""
        folder = self.out / "runs" / variant.name / f"seed-{seed}"
        try:
            if not (folder / HELD_OUT).exists():
                run = self._fitted(variant, seed, folder)
                save_tensors(folder / HELD_OUT, *self._judged(run))
            return load_tensors(folder / HELD_OUT)
        except (ValueError, FloatingPointError) as error:
            return str(error)

    def _fitted(self, variant: Variant, seed: int, folder: Path) -> Run:
        story = self.stories[variant.story]
        _, spec = zoo.find_story(story)
        story = spec if spec.own else story  # a user's file runs once a fit
        settings = variant.settings(spec, self.settings)
        if (folder / MODEL).exists():
            run = load(folder, story, device=self.device)
            run.table = self.table
            return run
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a collapsed row says so
            return fit_table(
                self.table,
                story,
                objective=variant.objective_name,
                device=self.device,
                out=folder,
                progress=False,
                beta=variant.beta,
                seed=seed,
                **variant.parts(),
                **settings,
            )

    def _judged(self, run: Run) -> tuple[dict[str, Tensor], dict]:
        cells, split = self.table.cells.to(run.device), self.table.split
        tensors, figures = evaluation.score(
            run.model,
            run.guide,
            lambda: sweep(cells, split.development, SWEEP),
            lambda: sweep(cells, split.test, SWEEP // 8),
            labels=len(self.table.encoding.labels),
            draws=self.draws,
        )
        seconds = sum(row["seconds"] for row in run.history)
        return tensors, figures | {"seconds": seconds, "measure": zoo.measure(run.model)}


def _digest(story: Story) -> str:
    """What an own story's file holds, as a hash; ours come with the package's version."""
    return story.own["sha256"] if story.own else version("pgm-expr")


def _refuse_other(place: Path, same: Mapping[str, Any]) -> None:
    try:
        old = json.loads(place.read_text())
        changed = [key for key in same if key != "stories" and old.get(key) != same[key]]
        for key, digest in same["stories"].items():
            changed += [f"story {key}"] * (old["stories"].get(key, digest) != digest)
    except (OSError, ValueError, KeyError):
        raise ValueError(
            f"'{place.parent}' holds other files than a comparison. Name a new folder."
        ) from None
    if changed:
        raise ValueError(
            f"'{place.parent}' holds a comparison of other settings ({', '.join(changed)}). "
            "Repeat them to go on, name another folder, or pass --overwrite."
        )


def _takes(wanted: Sequence[Variant], stories: Mapping[str, Story]) -> str:
    """Counts, unless every variant is about log values; the others are then refused."""
    kinds = {zoo.takes(stories[variant.story], variant.parts()) for variant in wanted}
    return "values" if kinds == {"values"} else "counts"


def _results(
    work: _Work, todo: Sequence[tuple[Variant, int]], jobs: int
) -> Iterator[tuple[tuple[Variant, int], Any]]:
    """The results of all fits, as they come."""
    if jobs == 1:
        yield from ((job, work.run(*job)) for job in todo)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn, initializer=_share, initargs=(work,)) as pool:
        futures = {pool.submit(_run, *job): job for job in todo}
        for future in as_completed(futures):
            yield futures[future], future.result()


_shared: _Work | None = None  # in a process of its own, what all its fits need


def _share(work: _Work) -> None:
    global _shared
    _shared = work
    torch.set_num_threads(1)


def _run(variant: Variant, seed: int) -> tuple[dict[str, Tensor], dict] | str:
    return _shared.run(variant, seed)


def _comparison(
    wanted: Sequence[Variant],
    refused: Mapping[Variant, str],
    done: Mapping[Variant, Mapping[int, Any]],
    draws: int,
) -> Comparison:
    fits = {v: [done[v][seed] for seed in sorted(done[v])] for v in wanted if v not in refused}
    scores = {v: [tensors for tensors, _ in each] for v, each in fits.items()}
    figures = {v: [notes for _, notes in each] for v, each in fits.items()}
    measures = {v: notes[0]["measure"] for v, notes in figures.items()}
    ranked = evaluation.rank(scores, measures)
    first = {m: i for i, m in reversed([*enumerate(measures.values())])}
    order = sorted(
        ranked, key=lambda v: first[measures[v]]
    )  # in the order of the variants; stable
    rows = [_row(v, ranked[v], figures[v]) for v in order]
    rows += [dict.fromkeys(COLUMNS) | dict(v.items()) | {"refused": refused[v]} for v in refused]
    return Comparison(rows, _zero_inflation(scores), draws)


def _row(variant: Variant, ranked: Mapping[str, Any], notes: Sequence[Mapping]) -> dict[str, Any]:
    row = dict.fromkeys(COLUMNS) | dict(variant.items()) | dict(ranked)
    row |= {"seeds": len(notes), "measure": notes[0]["measure"]}
    row["collapsed"] = sum(note["collapse"] is not None for note in notes)
    for key in ("kl", "active_units", "probe_macro_f1", "seconds"):
        values = [note[key] for note in notes if note[key] is not None]
        if values:
            both = torch.tensor(values, dtype=torch.double)
            row[key] = both.mean().item()
            if f"{key}_sd" in COLUMNS:
                row[f"{key}_sd"] = evaluation.spread(both)
    return row


def _zero_inflation(scores: Mapping[Variant, Any]) -> str | None:
    """The verdict over all pairs of fits that differ in NB or ZINB alone."""
    nb, zinb = [], []
    for variant, fits in scores.items():
        twin = replace(variant, likelihood="zinb")
        if variant.likelihood == "nb" and twin in scores:
            pairs = list(zip(fits, scores[twin], strict=False))
            nb += [one for one, _ in pairs]
            zinb += [other for _, other in pairs]
    return evaluation.zero_inflation(nb, zinb) if nb else None
