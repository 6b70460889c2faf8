"""Fits of a comparison: one run per variant and seed, each in a separate folder."""

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


@dataclass(frozen=True)
class Work:
    """Data, stories and settings that the fits share."""

    table: Table
    stories: Mapping[str, str | Path | Story]
    out: Path
    draws: int
    device: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def begin(self, overwrite: bool, hashes: Mapping[str, str]) -> None:
        """Make the folder; ValueError for one with other files or settings."""
        same = json.loads(
            json.dumps(
                {
                    "source": self.table.source,
                    "draws": self.draws,
                    "settings": dict(self.settings),
                    "columns": self.table.encoding.to_json(),
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
        """Scores of one fit, from its folder where they exist; a sentence where it failed."""
        folder = self.out / "runs" / variant.name / f"seed-{seed}"
        try:
            if not (folder / HELD_OUT).exists():
                run = self._fitted(variant, seed, folder)
                save_tensors(folder / HELD_OUT, *self._judged(run))
            return load_tensors(folder / HELD_OUT)
        except (ValueError, FloatingPointError) as error:
            return str(error)

    def _fitted(self, variant: Variant, seed: int, folder: Path) -> Fitted:
        story = self.stories[variant.story]
        _, spec = zoo.find_story(story)
        story = spec if spec.own else story  # a user's file is executed once per fit
        settings = variant.settings(spec, self.settings)
        if (folder / MODEL).exists():
            run = load(folder, story, device=self.device)
            run.table = self.table
            return run
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a collapsed row says so
            options: dict[str, Any] = {**variant.parts(), **settings}
            return fit_table(
                self.table,
                story,
                objective=variant.objective_name,
                device=self.device,
                out=folder,
                progress=False,
                beta=variant.beta,
                seed=seed,
                **options,
            )

    def _judged(self, run: Fitted) -> tuple[dict[str, Tensor], dict]:
        split = self.table.split
        cells = self.table.cells.to(run.device).withheld(but=("label",))  # for the probe
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


def digest(story: Story) -> str:
    """Hash of the file of a user-defined story; for others the version of the package."""
    return story.own["sha256"] if story.own else version("pgm-expr")


def _refuse_other(place: Path, same: Mapping[str, Any]) -> None:
    try:
        old = json.loads(place.read_text())
        changed = [key for key in same if key != "stories" and old.get(key) != same[key]]
        for key, digest in same["stories"].items():
            changed += [f"story {key}"] * (old["stories"].get(key, digest) != digest)
    except (OSError, ValueError, KeyError):
        raise ValueError(
            f"'{place.parent}' holds files that are no comparison. Name a new folder."
        ) from None
    if changed:
        raise ValueError(
            f"'{place.parent}' holds a comparison of other settings ({', '.join(changed)}). "
            "Repeat them to resume, name another folder, or pass --overwrite."
        )


def results(
    work: Work, todo: Sequence[tuple[Variant, int]], jobs: int
) -> Iterator[tuple[tuple[Variant, int], Any]]:
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


def _run(variant: Variant, seed: int) -> tuple[dict[str, Tensor], dict] | str:
    assert _shared is not None
    return _shared.run(variant, seed)
