"""A fitted story with the data it knows: embed, draw, normalise, judge, save."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import evaluation, report, zoo
from ..data import Cells, Encoding, change, content_hash, sweep
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
from .arviz import loo_pit, to_arviz
from .criticism import CELLS, criticize
from .criticism import DRAWS as IMPORTANCE
from .differential import differential_expression
from .evaluate import evaluate
from .folder import METRICS, MODEL, STORY, RunFolder, generator_file
from .generate import Learnt, generate, learn
from .heard import check_drawn, check_expressed
from .population import as_cells, draw_population
from .predict import DRAWS, predict_labels, predict_target
from .prior import STEPS as PRIOR_STEPS
from .prior import learn_prior
from .sleep import SLEEP, sleep
from .table import Table, query, reread

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

SWEEP = 512  # cells a batch outside training


@dataclass
class Run:
    """A model and its guide, how they came about (`notes`), and how training went (`history`)."""

    story: Story
    model: nn.Module
    guide: nn.Module
    notes: dict[str, Any]
    device: torch.device
    table: Table | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    generators: dict[str, Learnt] = field(default_factory=dict)

    def embed(self, data: AnnData | str | Path) -> np.ndarray:
        """Posterior means of the latent state, (N, D), whatever labels the data have.

        An AnnData gets them as `obsm["X_pgm_<story>"]` too, and each latent of a story of several
        as `obsm["X_pgm_<story>_<site>"]`. Genes may be in any order; missing ones count as zeros,
        with a warning. Raises ValueError for unseen batches or categories, for too few known
        genes, and for cells without any count in them.
        """
        cells = self.query(data)
        use = self.use(self.unlabelled(cells, np.arange(len(cells))))
        latent = use.loc.cpu().numpy()
        if hasattr(data, "obsm"):
            data.obsm[self.key] = latent
            several = use.locs.items() if len(use.locs) > 1 else ()
            data.obsm.update({f"{self.key}_{site}": z.cpu().numpy() for site, z in several})
        return latent

    def normalized_expression(
        self,
        data: AnnData | str | Path,
        *,
        condition: Mapping[str, object] | None = None,
        library: float = 1.0,
        draws: int = 25,
    ) -> np.ndarray:
        """Expected counts at a common library, (N, G): posterior means over `draws` of z.

        `condition` sets columns of obs to one level for all cells after their states are
        inferred as they are: `{"protocol": "Drop-seq"}` is what they would express, the model
        says, had all been measured so. ValueError for columns and levels that the fit does not
        know, and for a column that makes no difference once the state is known.
        """
        cells = self.query(data)
        check_expressed(self, cells, condition or {})
        at = change(self.encoding, cells.columns, condition or {})
        return self.expected(cells, np.arange(len(cells)), at, library=library, draws=draws)

    def sample(
        self,
        n: int,
        *,
        condition: Mapping[str, object] | None = None,
        library: np.ndarray | None = None,
        seed: int = 0,
    ) -> AnnData:
        """Draw n new cells from the story: integer counts in X, without any cell given.

        Libraries and metadata are those of training cells; `condition` sets columns of obs to one
        level, in any combination of levels that the fit has seen, and libraries are then those
        of such cells, where there are any. `library` (n,) fixes the totals expected. ValueError
        for columns and levels that the fit does not know, and for a column that the story's
        cells do not depend on.
        """
        check_drawn(self, condition or {})
        totals, told = draw_population(self.notes, n, condition or {}, np.random.default_rng(seed))
        totals = totals if library is None else np.asarray(library)
        return as_cells(self.notes, self.draw(totals, told, seed), totals, condition or {})

    def generate(
        self,
        n: int,
        *,
        by: str = "diffusion",
        condition: Mapping[str, object] | None = None,
        library: np.ndarray | None = None,
        seed: int = 0,
        **how: object,
    ) -> AnnData:
        """Draw n new cells whose states come from a generator that learnt the posteriors.

        `by` is prior (the story's own, as `sample`), diffusion, flow, cnf or matching, trained on
        first use on cells outside the test set and kept with the run (`save`). States have the
        library in them, unless `library` (n,) is given; `condition` sets columns of obs, labels
        too, else the mix is that of the training cells. `how` is the generator's: `steps=20`,
        `guidance=1.5` of diffusion. ValueError for unknown columns and levels, and a story with
        discrete latents.
        """
        return generate(self, n, by=by, condition=condition, library=library, seed=seed, **how)

    def learn(self, by: str, *, steps: int | None = None, seed: int = 0) -> Run:
        """Train a generator now or anew, which `generate` does on first use; returns the run."""
        self.generators[by] = learn(self, by, steps=steps, seed=seed)
        return self

    def predict_labels(self, data: AnnData | str | Path, *, draws: int = DRAWS) -> pd.DataFrame:
        """p(label | x) of each cell, (N, K), from draws of its state; for any run with labels.

        A logistic classifier is fitted to the states of the labelled cells outside the test set,
        its penalty and temperature cross-fitted among them, and averaged over `draws` of
        q(z | x); see `evaluation.classifier`. A story's `noise`, the share of wrong labels, is
        allowed for. An AnnData gets `obs["pgm_<story>_label"]` and `..._probability` too.
        ValueError where the fit had no labels.
        """
        return predict_labels(self, data, draws)

    def predict_target(self, data: AnnData | str | Path, *, draws: int = DRAWS) -> pd.DataFrame:
        """Mean and standard deviation of the target of each cell, in its own units.

        By the story's head, over `draws` of q(z | x); the deviation holds both what is unknown
        of the state and what the state leaves open. An AnnData gets `..._target_mean` and
        `..._target_sd` in obs too. ValueError where the story has no head for a target.
        """
        return predict_target(self, data, draws)

    def evaluate(
        self, data: AnnData | str | Path | None = None, *, refine: int = 0
    ) -> dict[str, Any]:
        """Judge the run on held-out cells beside baselines; the figures of `metrics.json`.

        With `refine`, the amortisation gap too: what so many gradient steps on each cell's own
        posterior gain over the guide's.

        Without `data`, or given the data of the fit again, on its test cells; else on all cells
        of `data`, with a warning where cells of the same names were in the fit.
        """
        self.metrics = evaluate(self, data, refine)
        if self.metrics["collapse"]:
            warnings.warn(self.metrics["collapse"], PosteriorCollapse, stacklevel=2)
        return self.metrics

    def criticize(
        self,
        data: AnnData | str | Path | None = None,
        *,
        cells: int = CELLS,
        draws: int = IMPORTANCE,
        sections: Iterable[str] | None = None,
    ) -> dict[str, Any]:
        """Every check of `evaluation` on at most `cells` held-out cells; plain data by section.

        Sections: heldout, health, reference, sbc, ppc, calibration, two_sample, markers,
        structure, explained, mixing, novelty, typicality, differential; all, or the ones named.
        What these data cannot tell is in `not_measured` with the reason. An AnnData gets the
        figures of each cell as obs["pgm_<story>_pareto_k"] and so on, the guide's health as
        uns["pgm_<story>_health"]. Memory is bounded by `cells`, not by the size of the data.
        """
        return criticize(self, data, cells=cells, draws=draws, sections=sections)

    def to_arviz(
        self,
        data: AnnData | str | Path | None = None,
        *,
        cells: int = 100,
        genes: Sequence[str] | None = None,
        draws: int = 100,
    ) -> Any:
        """An InferenceData (ArviZ 1.x: DataTree) of some held-out cells and genes, see
        `evaluation.to_arviz`; all genes by default. ValueError for genes the fit does not know."""
        return to_arviz(self, data, cells=cells, genes=genes, draws=draws)

    def loo_pit(
        self,
        data: AnnData | str | Path | None = None,
        *,
        cells: int = 100,
        genes: Sequence[str] | None = None,
        draws: int = 100,
    ) -> dict[str, np.ndarray]:
        """What `az.plot_loo_pit(**run.loo_pit())` takes (ArviZ 0.x): one half of the counts of
        held-out cells, and draws of them that have seen the other half, see `evaluation.loo_pit`.
        """
        return loo_pit(self, data, cells=cells, genes=genes, draws=draws)

    def differential_expression(
        self, data: AnnData, groups: str, one: str, other: str, *, draws: int = 100
    ) -> pd.DataFrame:
        """Posterior log2 fold changes of level `one` over `other` of a column of obs, by gene.

        Columns: mean, sd, low, high (95% interval), probability (of |log2 fold change| > .25) and
        called (expected share of false calls at most .05). The posterior is of these cells' states
        given the weights: cells of one donor are no replicates. ValueError for unknown columns
        and levels.
        """
        return differential_expression(self, data, groups, one, other, draws)

    def sleep(self, steps: int = SLEEP, *, progress: bool = False) -> Run:
        """Train the guide further, in place, on cells that the story draws; returns the run.

        States are then inferred with better calibrated uncertainty, and mostly better (compare
        `notes["sleep"]`, the bound of validation cells before and after); the story, and so what
        it says of data, stays as it is. Takes about as long as a fit of so many steps.
        `benchmarks/sbc.py --sleep 4000` measures what it does for every story.

        ValueError for a story whose prior is made of the guide (`vamp`).
        """
        bar = partial(report.tally, todo=range(steps), what="step", show=progress)
        return sleep(self, steps=steps, progress=bar)

    def learn_prior(
        self, prior: str = "flow", *, steps: int = PRIOR_STEPS, progress: bool = False
    ) -> Run:
        """A run of the same story, decoder and guide, whose prior learnt where posteriors are.

        `prior` is flow (splines) or mog (mixture of normals), trained on draws of the posteriors
        of the cells outside the test set; `sample` then draws cells that look more like real ones
        and the held-out bound is higher by what lay between posteriors and the old prior. Save it
        to a folder of its own. ValueError for a story without a prior to swap, and for one whose
        prior is made of the guide (`vamp`).
        """
        count = partial(report.endless, what="training of the prior: epoch", show=progress)
        return learn_prior(self, prior, steps=steps, progress=count)

    def save(self, path: str | Path) -> None:
        """Write the run to a folder; each file is whole or absent at any moment."""
        folder = RunFolder(path)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.write(STORY, self.notes)
        if self.history:
            folder.write_history(self.history)
        if self.metrics:
            folder.write(METRICS, self.metrics)
        for name, learnt in self.generators.items():
            learnt.save(folder.path / generator_file(name))
        save_tensors(folder.path / MODEL, self._tensors(), {"story": self.notes["story"]})
        (folder.path / CHECKPOINT).unlink(missing_ok=True)

    def pictures(self) -> dict[str, bytes]:
        """PNG pictures by file name: the training curve, and the latent space by label."""
        self.reread()
        cells, labels = self.table.cells.to(self.device), self.table.labels
        latent = self.use(self.unlabelled(cells, np.arange(len(cells)))).loc.cpu().numpy()
        curve = {"training.png": report.training_picture(self.history)} if self.history else {}
        return curve | {"latent.png": report.latent_picture(latent, labels)}

    @property
    def key(self) -> str:
        """The key of `obsm` that `embed` writes."""
        return f"X_{self.prefix}"

    @property
    def prefix(self) -> str:
        """What names of columns and layers that the run writes begin with."""
        return f"pgm_{self.notes['story']}"

    def objective(self, *, cells: float = math.inf) -> Objective:
        """What the run is trained with, over its model and guide."""
        name = self.notes["objective"]
        made = zoo.objective(name) if name else self.story.objective
        return made(self.model, self.guide, cells=cells).to(self.device)

    @property
    def encoding(self) -> Encoding:
        """How columns of obs are read."""
        return Encoding.from_json(self.notes["encoding"])

    def bound(self) -> Objective:
        """What the run is judged with, whatever it was trained with: the story's own objective."""
        return self.story.objective(self.model, self.guide, cells=math.inf).to(self.device)

    def warn_of_collapse(self) -> None:
        """Warn (`PosteriorCollapse`) where the validation cells' latent space is not in use."""
        cells = self.table.cells.to(self.device)
        verdict = self.use(self.unlabelled(cells, self.table.split.validation)).verdict()
        if verdict:
            warnings.warn(verdict, PosteriorCollapse, stacklevel=3)

    def reread(self, data: AnnData | str | Path | None = None) -> None:
        """Have the data of the fit at hand: from where they were, else from `data`."""
        if self.table is None:
            try:
                self.table = reread(self.notes)
            except (ValueError, OSError):
                if data is None:
                    raise
                self.table = reread(self.notes, data)

    def held_out(self, data: AnnData | str | Path | None) -> tuple[Cells, np.ndarray]:
        """The cells to judge on, and which of them."""
        known, split = self.table.cells.to(self.device), self.table.split
        cells = known if data is None else self.query(data)
        whole = content_hash(cells.counts, cells.genes, cells.names)
        if whole == self.notes["source"]["hash"]:
            return known, split.test
        seen = int(np.isin(cells.names, known.names[split.development]).sum())
        if seen:
            warnings.warn(
                f"{seen} of these {len(cells)} cells have names of cells in the fit: the figures "
                "are held-out ones only if they are others. Drop them, or rename them.",
                stacklevel=3,
            )
        return cells, np.arange(len(cells))

    def draw(self, library: np.ndarray, told: Mapping[str, np.ndarray], seed: int) -> np.ndarray:
        """New counts (n, G) of cells of these libraries (n,) and encoded metadata."""
        nothing = np.full((len(library), 1), np.nan, np.float32)  # told of a target
        rows = {"library": library, "target": nothing} | told
        cells = {k: torch.as_tensor(v, device=self.device) for k, v in rows.items()}
        cells["library"] = cells["library"].float().view(-1, 1)
        parts = zip(*(value.split(SWEEP) for value in cells.values()), strict=True)
        with seeded(seed):
            batches = (dict(zip(cells, part, strict=True)) for part in parts)
            return evaluation.draw_prior(self.model, batches).cpu().numpy()

    def expected(
        self,
        cells: Cells,
        index: np.ndarray,
        at: Mapping[str, np.ndarray],
        *,
        library: float,
        draws: int,
    ) -> np.ndarray:
        """Expected counts (n, G) of some cells, the encoded metadata of all N set to `at`."""
        found = evaluation.normalized_expression(
            self.model,
            self.guide,
            self.unlabelled(cells, index),
            at={key: torch.as_tensor(value, device=self.device) for key, value in at.items()},
            library=library,
            draws=draws,
        )
        return found.cpu().numpy()

    def query(self, data: AnnData | str | Path) -> Cells:
        """Cells of any data in the genes and levels of the fit."""
        source = self.notes["source"]
        cells = query(
            data,
            self.notes["genes"],
            self.encoding,
            source["layer"],
            source.get("takes", "counts"),
        )
        return cells.to(self.device)

    def unlabelled(self, cells: Cells, index: np.ndarray) -> Iterator[dict[str, Tensor]]:
        """Minibatches of some cells, without what is to be predicted."""
        return evaluation.withheld(sweep(cells.to(self.device), index, SWEEP))

    def use(self, batches: Iterable[dict[str, Tensor]]) -> LatentUse:
        """Posterior means and KL of each latent over some batches."""
        return latent_use(self.bound(), batches)

    def _tensors(self) -> dict[str, Tensor]:
        halves = {"model": self.model, "guide": self.guide}
        return {f"{h}/{n}": t for h, half in halves.items() for n, t in half.state_dict().items()}
