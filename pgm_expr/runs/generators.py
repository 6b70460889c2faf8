"""The generators that learn a story's states, by the names a user types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..diffusion import LatentDiffusion
from ..flow import ContinuousFlow, FlowMatching, SplineFlow
from ..inference import load_tensors, save_tensors
from ..nn import StateGenerator
from .states import States

GENERATORS: Mapping[str, type[StateGenerator]] = {
    "diffusion": LatentDiffusion,
    "flow": SplineFlow,
    "cnf": ContinuousFlow,
    "matching": FlowMatching,
}


@dataclass(frozen=True)
class Learnt:
    """A generator trained on the posteriors of a run, and how its states are read."""

    generator: StateGenerator
    states: States
    notes: dict[str, Any]  # name, size, conditions, steps, last loss

    def save(self, path: Path) -> None:
        """Write weights and notes to one file."""
        tensors = {f"generator/{n}": t for n, t in self.generator.state_dict().items()}
        tensors |= {f"shared/{n}": t for n, t in self.states.shared.items()}
        save_tensors(path, tensors, self.notes)

    @classmethod
    def load(cls, path: Path, device: torch.device) -> Learnt:
        """Read back what `save` wrote."""
        tensors, notes = load_tensors(path)
        made = GENERATORS[notes["name"]](notes["size"], notes["conditions"])
        made.load_state_dict(under("generator/", tensors))
        states = States(notes["widths"], under("shared/", tensors))
        return cls(made.to(device).eval(), states, notes)


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, by the rest of their names."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
