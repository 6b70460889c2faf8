"""Fits of a comparison: one run per variant, split and seed, each in a separate folder."""

from __future__ import annotations

import json
import multiprocessing
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import evaluation, zoo
from ..data import sweep
from ..inference import load_tensors, save_tensors, write_atomically
from ..runs.fit import fit_table
from ..runs.fitted import SWEEP, Fitted
from ..runs.folder import MODEL
from ..runs.load import load
from ..runs.table import Table
from ..zoo import Story
from .grid import Variant

HELD_OUT, SETTINGS = "heldout.safetensors", "settings.json"
SEEDS = 100  # between the seeds of one split and those of the next
Job = tuple[Variant, int, int]  # a variant, the number of a split and the number of a seed
Result = tuple[dict[str, Tensor], dict[str, Any]]  # tensors and figures of `evaluation.score`


@dataclass(frozen=True)
class Work:
    """Data, one table per split, stories and settings that the fits share."""

    tables: Sequence[Table]
    stories: Mapping[str, str | Path | Story]
    out: Path
    draws: int
    device: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def begin(self, overwrite: bool, hashes: Mapping[str, str]) -> None:
        """Make the folder; ValueError for one with other files or settings."""
        same = json.loads(json.dumps(self._identity(hashes)))
        place = self.out / SETTINGS
        if self.out.exists() and any(self.out.iterdir()) and not overwrite:
            _refuse_other(place, same)
            same["stories"] = json.loads(place.read_text())["stories"] | same["stories"]
        if overwrite:
            for old in (self.out / "runs").glob("*/*/*"):
                old.unlink()
        self.out.mkdir(parents=True, exist_ok=True)
        write_atomically(place, json.dumps(same, indent=1).encode())

    def _identity(self, hashes: Mapping[str, str]) -> dict[str, Any]:
        """What two comparisons in one folder share; the first table fixes data and splits."""
        first = self.tables[0]
        return {
            "source": first.source,
            "draws": self.draws,
            "settings": dict(self.settings),
            "columns": first.encoding.to_json(),
            "gene_sets": first.gene_sets,
            "stories": dict(hashes),
        }

    def run(self, variant: Variant, split: int, seed: int) -> Result | str:
        """Scores of one fit, from its folder where they exist; a sentence where it failed."""
        table, folder = self.tables[split], self.folder(variant, split, seed)
        try:
            found = _stored(folder)
            if found is None:
                found = self._judged(self._fitted(variant, table, SEEDS * split + seed, folder))
                save_tensors(folder / HELD_OUT, *found)
            return found
        except (ValueError, FloatingPointError) as error:
            return str(error)

    def folder(self, variant: Variant, split: int, seed: int) -> Path:
        """Where a fit is kept; the first split has the names of version 0.6.0."""
        name = f"split-{split}-seed-{seed}" if split else f"seed-{seed}"
        return self.out / "runs" / variant.name / name

    def _fitted(self, variant: Variant, table: Table, seed: int, folder: Path) -> Fitted:
        story = self.stories[variant.story]
        _, spec = zoo.find_story(story)
        story = spec if spec.own else story  # a user's file is executed once per fit
        settings = variant.settings(spec, self.settings)
        if (folder / MODEL).exists():
            run = load(folder, story, device=self.device)
            run.table = table
            return run
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a collapsed row says so
            options: dict[str, Any] = {**variant.parts(), **settings}
            return fit_table(
                table,
                story,
                objective=variant.objective_name,
                device=self.device,
                out=folder,
                progress=False,
                beta=variant.beta,
                seed=seed,
                **options,
            )

    def _judged(self, run: Fitted) -> Result:
        table = run.training_table()
        split, cells = table.split, table.cells.to(run.device).withheld(but=("label",))  # probe
        tensors, figures = evaluation.score(
            run.model,
            run.guide,
            lambda: sweep(cells, split.development, SWEEP),
            lambda: sweep(cells, split.test, SWEEP // 8),
            labels=len(table.encoding.labels),
            draws=self.draws,
            validation=lambda: sweep(cells, split.validation, SWEEP // 8),
        )
        seconds = sum(row["seconds"] for row in run.history)
        return tensors, figures | {"seconds": seconds, "measure": zoo.measure(run.model)}


def _stored(folder: Path) -> Result | None:
    """Scores of an earlier call; None where there are none, or none of validation cells."""
    if not (folder / HELD_OUT).exists():
        return None
    tensors, figures = load_tensors(folder / HELD_OUT)
    return (tensors, figures) if "validation" in tensors else None


def digest(story: Story) -> str:
    """Hash of the file of a user-defined story; for others the version of the package."""
    return story.own["sha256"] if story.own else version("pgm-expr")


def _refuse_other(place: Path, same: Mapping[str, Any]) -> None:
    try:
        old = json.loads(place.read_text())
        changed = [key for key in same if key != "stories" and old.get(key) != same[key]]
        for key, digest in same["stories"].items():
            changed += _of_story(key, old["stories"].get(key, digest), digest)
    except (OSError, ValueError, KeyError):
        raise ValueError(
            f"'{place.parent}' holds files that are no comparison. Name a new folder."
        ) from None
    if changed:
        raise ValueError(
            f"'{place.parent}' holds a comparison of other settings ({', '.join(changed)}). "
            "Repeat them to resume, name another folder, or pass --overwrite."
        )


def _of_story(name: str, old: str, new: str) -> list[str]:
    """What changed of a story: the text of its file, or the version of the package."""
    if old == new:
        return []
    return [f"story {name}" + (f" of version {old}, not {new}" if "." in old + new else "")]


def results(work: Work, todo: Sequence[Job], jobs: int) -> Iterator[tuple[Job, Result | str]]:
    """Results of all fits, in the order of completion."""
    if jobs == 1:
        yield from ((job, work.run(*job)) for job in todo)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn, initializer=_share, initargs=(work,)) as pool:
        futures = {pool.submit(_run, *job): job for job in todo}
        for future in as_completed(futures):
            yield futures[future], future.result()


_shared: Work | None = None  # in a worker process, what all its fits share


def _share(work: Work) -> None:
    global _shared
    _shared = work
    torch.set_num_threads(1)


def _run(variant: Variant, split: int, seed: int) -> Result | str:
    assert _shared is not None
    return _shared.run(variant, split, seed)
