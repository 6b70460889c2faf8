"""Labels as they are recorded, right or wrong."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn

CERTAIN = 1e-6  # the least noise: a label is never impossible, so that no log-probability is -inf


class Confusion(nn.Module):
    """p(label | y): the kind y with probability 1 - noise, else any of the others alike.

    call(y (...,) int64) -> Categorical over K labels. Edit `matrix` (K, K), rows p(. | y), where
    some kinds are mistaken for each other more often.
    """

    def __init__(self, labels: int, noise: float = 0.0) -> None:
        super().__init__()
        if not 0 <= noise < 1:
            raise ValueError(f"noise is a share of wrong labels, 0 up to 1: got {noise}.")
        wrong = max(noise, CERTAIN) / max(labels - 1, 1)
        matrix = torch.full((labels, labels), wrong).fill_diagonal_(1 - max(noise, CERTAIN))
        self.register_buffer("matrix", matrix / matrix.sum(-1, keepdim=True))  # (K, K)

    def forward(self, y: Tensor) -> dist.TorchDistribution:
        return dist.Categorical(self.matrix[y])

    def evidence(self, label: Tensor) -> Tensor:
        """log p(label | y) of each kind y, (N, K); 0 where no label was recorded."""
        known = self.matrix.log().T[label.clamp_min(0)]
        return torch.where((label >= 0).unsqueeze(-1), known, 0.0)

    def recorded(self, kinds: Tensor) -> Tensor:
        """log-probabilities of kinds (..., K) as those of the labels that would be recorded."""
        return (kinds.exp() @ self.matrix).log()
