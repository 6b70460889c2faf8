"""Runs from their notes: built anew before training, or read back from a folder."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import zoo
from ..data import membership
from ..inference import load_tensors, seeded
from ..tasks import GENERATORS
from ..zoo import Story
from .folder import MODEL, STORY, RunFolder, generator_file
from .generate import Learnt, under
from .own import story_of
from .run import Run
from .table import Table


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
    dims = notes["dims"] | _gene_sets(notes) | (table.from_data() if table else {})
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


def _gene_sets(notes: Mapping[str, Any]) -> dict[str, Tensor]:
    """Which gene belongs to which set, (S, G), where the fit was given sets."""
    if not notes.get("gene_sets"):
        return {}
    _, belongs = membership(notes["gene_sets"], notes["genes"], minimum=1)
    return {"gene_sets": torch.from_numpy(belongs)}


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
        _restore(half, under(f"{name}/", tensors), folder.path / MODEL)
    run.history = folder.read_history()
    run.generators = {
        name: Learnt.load(folder.path / generator_file(name), run.device)
        for name in GENERATORS
        if (folder.path / generator_file(name)).exists()
    }
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
