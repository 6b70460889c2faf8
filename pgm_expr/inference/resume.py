"""The state of a fit after an epoch: what is recorded, saved and resumed."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from .checkpoint import load_tensors, save_tensors
from .objective import Objective

CHECKPOINT = "checkpoint.safetensors"


@dataclass
class TrainingState:
    """The history of a fit and its best weights."""

    history: list[dict] = field(default_factory=list)
    best_epoch: int = -1
    best: dict[str, Tensor] = field(default_factory=dict)

    @property
    def since_best(self) -> int:
        """Epochs without improvement; none during the warm-up, where the newest is the best."""
        return len(self.history) - 1 - self.best_epoch

    def record(self, row: dict, objective: Objective, *, first: int) -> None:
        """Append a row; keep the weights if they are the best since epoch `first`."""
        best = self.history[self.best_epoch]["validation"] if self.history else math.nan
        better = self.best_epoch < first or math.isnan(best) or row["validation"] > best
        self.history.append(row)
        if better:
            self.best_epoch = row["epoch"]
            self.best = copy.deepcopy(objective.state_dict())

    def save(self, path: Path, objective: Objective, optimizer: torch.optim.Optimizer) -> None:
        """Write everything that `resume` needs into one file."""
        tensors = {f"weights/{name}": t for name, t in objective.state_dict().items()}
        tensors |= {f"best/{name}": t for name, t in self.best.items()}
        for number, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{name}": t for name, t in state.items()}
        save_tensors(path, tensors, {"history": self.history, "best_epoch": self.best_epoch})

    @classmethod
    def resume(
        cls, path: Path, objective: Objective, optimizer: torch.optim.Optimizer
    ) -> TrainingState:
        """Restore weights and optimizer; ValueError where the file is not a checkpoint."""
        tensors, notes = load_tensors(path)
        if not isinstance(notes, dict) or "history" not in notes:
            raise ValueError(
                f"'{path}' is not a checkpoint of a fit. Remove it or pass --overwrite."
            )
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "best": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, rest = name.split("/", 1)
            parts[part][rest] = tensor
        objective.load_state_dict(parts["weights"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            number, key = name.split("/")
            state.setdefault(int(number), {})[key] = tensor
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
        return cls(notes["history"], notes["best_epoch"], parts["best"])
