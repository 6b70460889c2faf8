"""A fitted story: model, guide, how they came about, and the primitives of every task."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import predict, zoo
from ..data import Cells, Encoding, content_hash, sweep
from ..inference import (
    CHECKPOINT,
    LatentUse,
    Objective,
    PosteriorCollapse,
    latent_use,
    save_tensors,
    seeded,
)
from ..zoo import Story
from .folder import METRICS, MODEL, STORY, RunFolder, generator_file
from .generators import Learnt
from .table import Table, query, reread

if TYPE_CHECKING:
    from anndata import AnnData

SWEEP = 512  # cells in a minibatch outside training


@dataclass
class Fitted:
    """A trained model with its guide, and what is known about them.

    `notes` is what `story.json` records (story, options, dimensions, encoding, genes, split,
    versions), `history` one row per epoch, `metrics` the figures of `evaluate`, `folder` where
    the run is stored. What a user calls are the functions of `tasks` and `criticism`.
    """

    story: Story
    model: nn.Module
    guide: nn.Module
    notes: dict[str, Any]
    device: torch.device
    table: Table | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    generators: dict[str, Learnt] = field(default_factory=dict)
    folder: RunFolder | None = None

    def save(self, path: str | Path) -> None:
        """Write the run to a folder; each file is written atomically.

        Parameters
        ----------
        path
            The folder, created if needed. Later results (`evaluate`, `criticize`, `generate`) are
            written there too.
        """
        self.folder = RunFolder(path)
        self.folder.path.mkdir(parents=True, exist_ok=True)
        self.folder.write(STORY, self.notes)
        if self.history:
            self.folder.write_history(self.history)
        if self.metrics:
            self.folder.write(METRICS, self.metrics)
        for name, learnt in self.generators.items():
            learnt.save(self.folder.path / generator_file(name))
        save_tensors(self.folder.path / MODEL, self._tensors(), {"story": self.notes["story"]})
        (self.folder.path / CHECKPOINT).unlink(missing_ok=True)

    def _tensors(self) -> dict[str, Tensor]:
        halves = {"model": self.model, "guide": self.guide}
        return {f"{h}/{n}": t for h, half in halves.items() for n, t in half.state_dict().items()}

    def keep(self, name: str, value: object) -> None:
        """Write a result beside the run where it is stored; a warning where that fails."""
        self._keep(name, lambda folder: folder.write(name, value))

    def keep_generator(self, name: str) -> None:
        """Write a trained generator beside the run where it is stored."""
        file = generator_file(name)
        self._keep(file, lambda folder: self.generators[name].save(folder.path / file))

    def _keep(self, name: str, write: Callable[[RunFolder], None]) -> None:
        if self.folder is None:
            return
        try:
            write(self.folder)
        except OSError as error:
            warnings.warn(
                f"'{self.folder.path}': {name} could not be written ({error.strerror}). "
                "The result is returned; save the run elsewhere to keep it.",
                stacklevel=4,
            )

    @property
    def key(self) -> str:
        """The key of `obsm` that `embed` writes."""
        return f"X_{self.prefix}"

    @property
    def prefix(self) -> str:
        """Prefix of the columns and layers that the run writes."""
        return f"pgm_{self.notes['story']}"

    def require_states(self, task: str) -> None:
        """ValueError where the story has no latent state of cells, which the task requires."""
        if self.story.unit != "cells":
            raise ValueError(
                f"{task} requires a latent state of cells: the unit of the story "
                f"{self.notes['story']} is {self.story.unit}."
            )

    @property
    def encoding(self) -> Encoding:
        """How columns of obs are read."""
        return Encoding.from_json(self.notes["encoding"])

    @property
    def takes(self) -> str:
        """What the story models: raw "counts", or "values" on a log scale."""
        return self.notes["source"].get("takes", "counts")

    def objective(self, *, cells: float = math.inf) -> Objective:
        """The objective of training, over the run's model and guide."""
        name = self.notes["objective"]
        made = zoo.objective(name) if name else self.story.objective
        return made(self.model, self.guide, cells=cells).to(self.device)

    def bound(self) -> Objective:
        """The bound for evaluation: the story's default objective, whatever trained the run."""
        return self.story.objective(self.model, self.guide, cells=math.inf).to(self.device)

    def training_table(self, data: AnnData | str | Path | None = None) -> Table:
        """The table of the fit: in memory, else read again from its source, else from `data`."""
        if self.table is None:
            try:
                self.table = reread(self.notes)
            except (ValueError, OSError):
                if data is None:
                    raise
                self.table = reread(self.notes, data)
        return self.table

    def training_cells(self) -> Cells:
        """All cells of the table of the fit, on the device of the run."""
        return self.training_table().cells.to(self.device)

    def query(self, data: AnnData | str | Path) -> Cells:
        """Cells of any data, encoded with the genes and levels of the fit."""
        layer = self.notes["source"]["layer"]
        cells = query(data, self.notes["genes"], self.encoding, layer, self.takes)
        return cells.to(self.device)

    def held_out(self, data: AnnData | str | Path | None) -> tuple[Cells, np.ndarray]:
        """Cells for evaluation, and the positions of those outside training and validation."""
        table = self.training_table(data)
        known, split = table.cells.to(self.device), table.split
        cells = known if data is None else self.query(data)
        digest = content_hash(cells.counts, cells.genes, cells.names)
        if digest == self.notes["source"]["hash"]:
            return known, split.test
        seen = int(np.isin(cells.names, known.names[split.development]).sum())
        if seen:
            warnings.warn(
                f"{seen} of these {len(cells)} cells have names of cells in the fit: if they are "
                "the same cells, the figures are not held-out. Drop them, or rename them.",
                stacklevel=3,
            )
        return cells, np.arange(len(cells))

    def unlabelled(
        self, cells: Cells, index: np.ndarray | None = None
    ) -> Iterator[dict[str, Tensor]]:
        """Minibatches of some cells, all by default, without labels and targets."""
        index = np.arange(len(cells)) if index is None else index
        return sweep(cells.to(self.device).withheld(), index, SWEEP)

    def use(self, batches: Iterable[dict[str, Tensor]]) -> LatentUse:
        """Posterior means and KL of each latent over some batches."""
        return latent_use(self.bound(), batches)

    def draw(
        self, library: np.ndarray, covariates: Mapping[str, np.ndarray], seed: int
    ) -> np.ndarray:
        """New counts (n, G) of cells with these libraries (n,) and encoded covariates."""
        target = np.full((len(library), 1), np.nan, np.float32)
        rows = {"library": library, "target": target, **covariates}
        cells = {k: torch.as_tensor(v, device=self.device) for k, v in rows.items()}
        cells["library"] = cells["library"].float().view(-1, 1)
        parts = zip(*(value.split(SWEEP) for value in cells.values()), strict=True)
        with seeded(seed):
            batches = (dict(zip(cells, part, strict=True)) for part in parts)
            return predict.draw_prior(self.model, batches).cpu().numpy()

    def expected(
        self,
        cells: Cells,
        index: np.ndarray,
        at: Mapping[str, np.ndarray],
        *,
        library: float,
        draws: int,
    ) -> np.ndarray:
        """Expected counts (n, G) of some cells, the encoded covariates of all N set to `at`."""
        found = predict.normalized_expression(
            self.model,
            self.guide,
            self.unlabelled(cells, index),
            at={key: torch.as_tensor(value, device=self.device) for key, value in at.items()},
            library=library,
            draws=draws,
        )
        return found.cpu().numpy()

    def warn_of_collapse(self) -> None:
        """Warn (`PosteriorCollapse`) if the posterior of the validation cells has collapsed."""
        split = self.training_table().split
        verdict = self.use(self.unlabelled(self.training_cells(), split.validation)).verdict()
        if verdict:
            warnings.warn(verdict, PosteriorCollapse, stacklevel=3)
