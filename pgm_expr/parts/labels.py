"""Recorded labels, some of which are wrong."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn

CERTAIN = 1e-6  # least noise: no label is impossible, so that no log-probability is -inf


class Confusion(nn.Module):
    """p(label | y): the true type y with probability 1 - noise, else one of the others uniformly.

    Called with y (...) int64, returns a Categorical over K labels. Where some types are confused
    more often, edit `matrix` (K, K), whose row y is p(label | y).

    Parameters
    ----------
    labels
        Number of labels K.
    noise
        Share of wrong labels, in [0, 1).

    Raises
    ------
    ValueError
        If `noise` is not in [0, 1).

    Examples
    --------
    >>> import torch
    >>> confusion = Confusion(labels=3, noise=0.1)
    >>> confusion(torch.tensor([0])).probs
    tensor([[0.9000, 0.0500, 0.0500]])
    """

    matrix: Tensor

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
        """log p(label | y) for each type y, (N, K), of labels (N,); 0 where the label is -1."""
        recorded = self.matrix.log().T[label.clamp_min(0)]
        return torch.where((label >= 0).unsqueeze(-1), recorded, 0.0)

    def recorded(self, kinds: Tensor) -> Tensor:
        """Log-probabilities (..., K) of recorded labels from those of types."""
        return (kinds.exp() @ self.matrix).log()
