"""Networks of stories and guides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def concat(*inputs: Tensor) -> Tensor:
    """Concatenate along the last dimension and broadcast the others.

    A cell's condition (N, C) can be joined with particles (S, N, D), and an enumerated label
    (K, 1, 1, C) with both, where `torch.cat` requires equal shapes.

    Parameters
    ----------
    *inputs
        Tensors (..., A), (..., B), ...

    Returns
    -------
    Tensor
        (..., A + B + ...).

    Examples
    --------
    >>> import torch
    >>> concat(torch.zeros(3, 5, 2), torch.zeros(5, 4)).shape
    torch.Size([3, 5, 6])
    """
    shape = torch.broadcast_shapes(*(part.shape[:-1] for part in inputs))
    return torch.cat([part.expand(*shape, part.shape[-1]) for part in inputs], -1)


def features(inputs: int, hidden: int, *, layers: int = 1, dropout: float = 0.0) -> nn.Sequential:
    """`layers` times Linear, ReLU, dropout: (..., inputs) -> (..., hidden).

    Without batch normalisation, which breaks particle dimensions and batches of one cell.

    Parameters
    ----------
    inputs
        Size of the inputs.
    hidden
        Width of every layer.
    layers
        Number of layers.
    dropout
        Dropout after every layer.

    Returns
    -------
    nn.Sequential
        The network.

    Examples
    --------
    >>> import torch
    >>> features(10, 8, layers=2)(torch.randn(3, 5, 10)).shape
    torch.Size([3, 5, 8])
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
    """`features` and a linear layer: (..., inputs) -> (..., outputs).

    Parameters
    ----------
    inputs
        Size of the inputs.
    hidden
        Width of the hidden layers.
    outputs
        Size of the outputs.
    layers
        Number of hidden layers.
    dropout
        Dropout after every hidden layer.
    skip
        Give the inputs to every layer, see `SkipMLP`.

    Returns
    -------
    nn.Module
        The network.

    Examples
    --------
    >>> import torch
    >>> mlp(2, 8, 5)(torch.randn(7, 2)).shape
    torch.Size([7, 5])
    """
    if skip:
        return SkipMLP(inputs, hidden, outputs, layers=layers, dropout=dropout)
    body = features(inputs, hidden, layers=layers, dropout=dropout)
    return nn.Sequential(*body, nn.Linear(hidden, outputs))


class SkipMLP(nn.Module):
    """An `mlp` whose layers all take the inputs beside the previous layer's outputs.

    Skip connections from the latent state to every layer make posterior collapse less likely.

    Parameters
    ----------
    inputs, hidden, outputs, layers, dropout
        See `mlp`.

    References
    ----------
    Dieng et al., AISTATS 2019, https://arxiv.org/abs/1807.04863

    Examples
    --------
    >>> import torch
    >>> SkipMLP(2, 8, 5, layers=2)(torch.randn(7, 2)).shape
    torch.Size([7, 5])
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
    """K linear maps, selected by y: (..., inputs), y (...) in 0..K-1 -> (..., outputs).

    An enumerated y, (K, 1, 1), costs K products over all cells; a drawn y, (N,), copies the
    weights of every cell's map.

    Parameters
    ----------
    levels
        Number of maps K.
    inputs, outputs
        Sizes of inputs and outputs.

    Examples
    --------
    >>> import torch
    >>> maps = Linears(levels=3, inputs=2, outputs=5)
    >>> maps(torch.randn(7, 2), torch.arange(3).view(3, 1)).shape
    torch.Size([3, 7, 5])
    """

    def __init__(self, levels: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(inputs, outputs) for _ in range(levels))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        maps: Iterable[Any] = self.maps
        weight = torch.stack([each.weight for each in maps])  # (K, outputs, inputs)
        bias = torch.stack([each.bias for each in maps])  # (K, outputs)
        weight, bias = (rows.index_select(0, y.flatten()) for rows in (weight, bias))
        product = torch.einsum("...i,...oi->...o", x, weight.unflatten(0, y.shape))
        return product + bias.unflatten(0, y.shape)


class MLPs(nn.Module):
    """K networks of one hidden layer, selected by y as in `Linears`.

    Parameters
    ----------
    levels
        Number of networks K.
    inputs, hidden, outputs
        Sizes of inputs, hidden layers and outputs.
    dropout
        Dropout after the hidden layers.

    Examples
    --------
    >>> import torch
    >>> networks = MLPs(levels=3, inputs=2, hidden=8, outputs=5)
    >>> networks(torch.randn(7, 2), torch.zeros(7, dtype=torch.long)).shape
    torch.Size([7, 5])
    """

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
        """Add `outputs` (K, outputs) to the last biases, so that network k starts near row k."""
        maps: Iterable[Any] = self.read_out.maps
        for each, start in zip(maps, outputs, strict=True):
            each.bias += start
