"""A fitted story with the data it knows: embed, draw, normalise, judge, save."""

from __future__ import annotations

import math
import platform
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import evaluation, report, zoo
from ..data import Cells, Encoding, content_hash, sweep
from ..inference import (
    CHECKPOINT,
    Objective,
    PosteriorCollapse,
    latent_use,
    load_tensors,
    save_tensors,
    seeded,
)
from ..zoo import Story
from .folder import METRICS, MODEL, STORY, RunFolder
from .own import story_of
from .table import Table, query, reread

if TYPE_CHECKING:
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

    def embed(self, data: AnnData | str | Path) -> np.ndarray:
        """Posterior means of the latent state, (N, D).

        An AnnData gets them as `obsm["X_pgm_<story>"]` too. Genes may be in any order; missing
        ones count as zeros, with a warning. Raises ValueError for unseen batches or categories,
        for too few known genes, and for cells without any count in them.
        """
        use = latent_use(self.bound(), self._batches(self._query(data)))
        latent = use.loc.cpu().numpy()
        if hasattr(data, "obsm"):
            data.obsm[self.key] = latent
        return latent

    def normalized_expression(
        self, data: AnnData | str | Path, *, library: float = 1.0, draws: int = 25
    ) -> np.ndarray:
        """Expected counts at a common library, (N, G): posterior means over `draws` of z."""
        batches = self._batches(self._query(data))
        return (
            evaluation.normalized_expression(
                self.model, self.guide, batches, library=library, draws=draws
            )
            .cpu()
            .numpy()
        )

    def sample(self, n: int, *, library: np.ndarray | None = None, seed: int = 0) -> AnnData:
        """Draw n new cells from the story: integer counts in X, at the training libraries.

        `library` (n,) fixes the total expected counts; by default they are drawn from those of
        the training cells.
        """
        from anndata import AnnData
        from scipy.sparse import csr_matrix

        rng = np.random.default_rng(seed)
        if library is None:
            known = self.notes["library_quantiles"]
            library = np.interp(rng.random(n), np.linspace(0, 1, len(known)), known)
        column = torch.as_tensor(library, dtype=torch.float32, device=self.device).view(n, 1)
        with seeded(seed):
            batches = ({"library": part} for part in column.split(SWEEP))
            x = evaluation.draw_prior(self.model, batches).cpu().numpy()
        drawn = AnnData(csr_matrix(x.astype(np.int32)))
        drawn.var_names, drawn.obs["library"] = self.notes["genes"], column.cpu().numpy()[:, 0]
        return drawn

    def evaluate(
        self, data: AnnData | str | Path | None = None, *, refine: int = 0
    ) -> dict[str, Any]:
        """Judge the run on held-out cells beside baselines; the figures of `metrics.json`.

        With `refine`, the amortisation gap too: what so many gradient steps on each cell's own
        posterior gain over the guide's.

        Without `data`, or given the data of the fit again, on its test cells; else on all cells
        of `data`, with a warning where cells of the same names were in the fit.
        """
        self._reread(data)
        known = self.table.cells.to(self.device)
        cells, held_out = self._held_out(data)
        metrics, rows = evaluation.judge(
            self.model,
            self.guide,
            lambda: sweep(known, self.table.split.development, SWEEP),
            lambda: sweep(cells, held_out, SWEEP // 8),
            labels=len(self.table.encoding.labels) if "label" in cells.columns else 0,
            objective=self.story.objective,
            measure=zoo.measure(self.model),
        )
        seeds = {
            "split_seed": self.notes["source"]["split_seed"],
            "seed": self.notes["plan"]["seed"],
        }
        if refine:
            batches = sweep(cells, held_out, SWEEP)
            metrics |= self._refined(batches, refine)
        self.metrics = {**metrics, **self._speed(), **seeds, "table": rows}
        if metrics["collapse"]:
            warnings.warn(metrics["collapse"], PosteriorCollapse, stacklevel=2)
        return self.metrics

    def save(self, path: str | Path) -> None:
        """Write the run to a folder; each file is whole or absent at any moment."""
        folder = RunFolder(path)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.write(STORY, self.notes)
        if self.history:
            folder.write_history(self.history)
        if self.metrics:
            folder.write(METRICS, self.metrics)
        save_tensors(folder.path / MODEL, self._tensors(), {"story": self.notes["story"]})
        (folder.path / CHECKPOINT).unlink(missing_ok=True)

    def pictures(self) -> dict[str, bytes]:
        """PNG pictures by file name: the training curve, and the latent space by label."""
        self._reread()
        cells, labels = self.table.cells.to(self.device), self.table.labels
        latent = latent_use(self.bound(), self._batches(cells)).loc.cpu().numpy()
        return {
            "training.png": report.training_picture(self.history),
            "latent.png": report.latent_picture(latent, labels),
        }

    @property
    def key(self) -> str:
        """The key of `obsm` that `embed` writes."""
        return f"X_pgm_{self.notes['story']}"

    def objective(self, *, cells: float = math.inf) -> Objective:
        """What the run is trained with, over its model and guide."""
        name = self.notes["objective"]
        made = zoo.objective(name) if name else self.story.objective
        return made(self.model, self.guide, cells=cells).to(self.device)

    def bound(self) -> Objective:
        """What the run is judged with, whatever it was trained with: the story's own objective."""
        return self.story.objective(self.model, self.guide, cells=math.inf).to(self.device)

    def warn_of_collapse(self) -> None:
        """Warn (`PosteriorCollapse`) where the validation cells' latent space is not in use."""
        cells = self.table.cells.to(self.device)
        batches = sweep(cells, self.table.split.validation, SWEEP)
        verdict = latent_use(self.bound(), batches).verdict()
        if verdict:
            warnings.warn(verdict, PosteriorCollapse, stacklevel=3)

    def _reread(self, data: AnnData | str | Path | None = None) -> None:
        """Have the data of the fit at hand: from where they were, else from `data`."""
        if self.table is None:
            try:
                self.table = reread(self.notes)
            except (ValueError, OSError):
                if data is None:
                    raise
                self.table = reread(self.notes, data)

    def _held_out(self, data: AnnData | str | Path | None) -> tuple[Cells, np.ndarray]:
        """The cells to judge on, and which of them."""
        known, split = self.table.cells.to(self.device), self.table.split
        cells = known if data is None else self._query(data)
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

    def _query(self, data: AnnData | str | Path) -> Cells:
        encoding = Encoding.from_json(self.notes["encoding"])
        source = self.notes["source"]
        cells = query(
            data, self.notes["genes"], encoding, source["layer"], source.get("takes", "counts")
        )
        return cells.to(self.device)

    def _batches(self, cells: Cells) -> Iterator[dict[str, Tensor]]:
        return sweep(cells, np.arange(len(cells)), SWEEP)

    def _tensors(self) -> dict[str, Tensor]:
        halves = {"model": self.model, "guide": self.guide}
        return {f"{h}/{n}": t for h, half in halves.items() for n, t in half.state_dict().items()}

    def _refined(self, batches: Iterator[dict[str, Tensor]], steps: int) -> dict[str, float]:
        """The amortisation gap in nats per cell, with its standard error over cells."""
        found = evaluation.amortisation_gap(self.model, self.guide, batches, steps=steps)
        gap, error = found.gap.mean().item(), evaluation.standard_error(found.gap)
        return {"amortisation_gap": gap, "amortisation_gap_se": error, "refinement_steps": steps}

    def _speed(self) -> dict[str, float | None]:
        """Cells seen per second of training epochs after the first."""
        n, size = self.notes["cells"]["train"], self.notes["plan"]["batch_size"]
        later = [row["seconds"] for row in self.history[1:]]
        seen = n // min(size, n) * min(size, n) * len(later)
        return {"cells_per_second": seen / sum(later) if later else None}


def assemble(
    story: Story,
    notes: Mapping[str, Any],
    device: str,
    *,
    seed: int = 0,
    table: Table | None = None,
) -> Run:
    """An untrained run: model and guide built from the notes, initialised by `seed`.

    What the data fill beyond sizes comes from `table`; a run to be loaded needs none. Whatever
    parts are chosen, what the story has without them starts from the same weights.
    """
    where = _device(device)
    dims = notes["dims"] | (table.from_data() if table else {})
    own_options = zoo.defaults(story).keys() - zoo.PARTS.keys()
    plain = {name: v for name, v in notes["options"].items() if name in own_options}
    with seeded(seed):
        pair = zoo.build(story, dims, **notes["options"])
    if table and plain != notes["options"]:  # a run to be loaded brings its weights
        with seeded(seed):
            for half, own in zip(pair, zoo.build(story, dims, **plain), strict=True):
                _start_alike(half, own)
    names = ("pgm-expr", "torch", "pyro-ppl", "scanpy", "anndata")
    versions = {"python": platform.python_version()} | {name: version(name) for name in names}
    model, guide = (half.to(where) for half in pair)
    return Run(story, model, guide, {**notes, "versions": versions}, where, table)


def _start_alike(half: nn.Module, own: nn.Module) -> None:
    """Take over the weights that both have, by name and shape."""
    state = half.state_dict()
    shared = {
        n: t for n, t in own.state_dict().items() if n in state and t.shape == state[n].shape
    }
    half.load_state_dict(shared, strict=False)


def load(
    path: str | Path, story: str | Path | Story | None = None, *, device: str = "auto"
) -> Run:
    """A run from its folder. Nothing in it is executed; a story of your own is passed again.

    Raises ValueError where the folder holds no finished run, or one of another story.
    """
    folder = RunFolder(path)
    notes = folder.read(STORY)
    spec = story_of(path, notes, story)
    if not (folder.path / MODEL).exists():
        raise ValueError(f"'{path}' holds an unfinished run. Repeat its `fit` to resume it.")
    run = assemble(spec, notes, device)
    run.notes = notes
    tensors, _ = load_tensors(folder.path / MODEL)
    for name, half in (("model", run.model), ("guide", run.guide)):
        own = {n.removeprefix(f"{name}/"): t for n, t in tensors.items() if n.startswith(name)}
        _restore(half, own, folder.path / MODEL)
    run.history = folder.read_history()
    return run


def _restore(half: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    try:
        half.load_state_dict(weights)
    except RuntimeError:
        raise ValueError(
            f"'{path}' holds other weights than its story.json says. Fit again with --overwrite."
        ) from None
    half.eval()


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device '{name}' cannot be used: {reason} Pass cpu or auto.") from None
