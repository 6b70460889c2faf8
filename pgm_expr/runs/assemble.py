"""Runs from their notes: model and guide built anew, to train or to receive weights."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from .. import zoo
from ..data import Encoding, membership
from ..inference import seeded
from ..zoo import Story
from .fitted import Fitted
from .table import Table


def assemble(
    story: Story,
    notes: Mapping[str, Any],
    device: str,
    *,
    seed: int = 0,
    table: Table | None = None,
) -> Fitted:
    """An untrained run: model and guide built from the notes, initialised by `seed`.

    What the data fill beyond sizes comes from `table`; a run to be loaded needs none. Whatever
    parts are chosen, what the story has without them starts from the same weights.
    """
    where = _device(device)
    dims = notes["dims"] | _gene_sets(notes) | (table.from_data() if table else {})
    own_options = zoo.defaults(story).keys() - zoo.PARTS.keys()
    plain = {name: v for name, v in notes["options"].items() if name in own_options}
    requires = Encoding.requires()
    with seeded(seed):
        pair = zoo.build(story, dims, requires=requires, **notes["options"])
    if table and plain != notes["options"]:  # a run to be loaded brings its weights
        with seeded(seed):
            for half, own in zip(pair, zoo.build(story, dims, **plain), strict=True):
                _start_alike(half, own)
    names = ("pgm-expr", "torch", "pyro-ppl", "scanpy", "anndata")
    versions = {"python": platform.python_version()} | {name: version(name) for name in names}
    model, guide = (half.to(where) for half in pair)
    return Fitted(story, model, guide, {**notes, "versions": versions}, where, table)


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


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device '{name}' cannot be used: {reason} Pass cpu or auto.") from None
