"""Plain torch networks that stories and guides are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def concat(*inputs: Tensor) -> Tensor:
    """Join along the last dimension, (..., A) and (..., B) -> (..., A + B); the rest broadcasts.

    So a cell's condition (N, C) goes with particles (S, N, D), and an enumerated label
    (K, 1, 1, C) with both, where torch.cat asks for equal shapes.
    """
    shape = torch.broadcast_shapes(*(part.shape[:-1] for part in inputs))
    return torch.cat([part.expand(*shape, part.shape[-1]) for part in inputs], -1)


def features(inputs: int, hidden: int, *, layers: int = 1, dropout: float = 0.0) -> nn.Sequential:
    """`layers` times Linear, ReLU, dropout: (..., inputs) -> (..., hidden).

    No batch normalisation: it breaks particle dimensions and batches of one cell.
    """
    steps: list[nn.Module] = []
    for width in [inputs] + (layers - 1) * [hidden]:
        steps += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*steps)


def mlp(
    inputs: int,
    hidden: int,
    outputs: int,
    *,
    layers: int = 1,
    dropout: float = 0.0,
    skip: bool = False,
) -> nn.Module:
    """`features` and a linear read-out: (..., inputs) -> (..., outputs).

    With `skip` every layer sees the inputs again, see `SkipMLP`.
    """
    if skip:
        return SkipMLP(inputs, hidden, outputs, layers=layers, dropout=dropout)
    body = features(inputs, hidden, layers=layers, dropout=dropout)
    return nn.Sequential(*body, nn.Linear(hidden, outputs))


class SkipMLP(nn.Module):
    """`mlp` whose every layer after the first, the read-out too, also takes the inputs.

    A latent state that no layer can forget is harder to collapse.
    Dieng et al., AISTATS 2019, https://arxiv.org/abs/1807.04863
    """

    def __init__(
        self, inputs: int, hidden: int, outputs: int, *, layers: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        later = [features(hidden + inputs, hidden, dropout=dropout) for _ in range(layers - 1)]
        self.layers = nn.ModuleList([features(inputs, hidden, dropout=dropout), *later])
        self.read_out = nn.Linear(hidden + inputs, outputs)

    def forward(self, z: Tensor) -> Tensor:
        first, *later = self.layers
        h = first(z)
        for layer in later:
            h = layer(torch.cat([h, z], -1))
        return self.read_out(torch.cat([h, z], -1))
