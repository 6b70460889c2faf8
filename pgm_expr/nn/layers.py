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


class Linears(nn.Module):
    """K linear maps, and which one is taken: (..., inputs), y (...) in 0..K-1 -> (..., outputs).

    An enumerated y, (K, 1, 1), costs K products, one for each map and all cells; a drawn one,
    (N,), holds the weights of every cell's map at once.
    """

    def __init__(self, levels: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(inputs, outputs) for _ in range(levels))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        weight = torch.stack([each.weight for each in self.maps])  # (K, outputs, inputs)
        bias = torch.stack([each.bias for each in self.maps])  # (K, outputs)
        weight, bias = (rows.index_select(0, y.flatten()) for rows in (weight, bias))
        product = torch.einsum("...i,...oi->...o", x, weight.unflatten(0, y.shape))
        return product + bias.unflatten(0, y.shape)


class MLPs(nn.Module):
    """K networks of one hidden layer side by side, one taken by y as in `Linears`."""

    def __init__(
        self, levels: int, inputs: int, hidden: int, outputs: int, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.hidden, self.dropout = Linears(levels, inputs, hidden), nn.Dropout(dropout)
        self.read_out = Linears(levels, hidden, outputs)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.read_out(self.dropout(self.hidden(x, y).relu()), y)

    @torch.no_grad()
    def start_at(self, outputs: Tensor) -> None:
        """Add `outputs` (K, outputs) to the biases, so that each network starts near its own."""
        for each, start in zip(self.read_out.maps, outputs, strict=True):
            each.bias += start
