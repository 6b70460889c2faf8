"""Plain torch networks that stories and guides are made of."""

from __future__ import annotations

from torch import nn


def features(inputs: int, hidden: int, *, layers: int = 1, dropout: float = 0.0) -> nn.Sequential:
    """`layers` times Linear, ReLU, dropout: (..., inputs) -> (..., hidden).

    No batch normalisation: it breaks particle dimensions and batches of one cell.
    """
    steps: list[nn.Module] = []
    for width in [inputs] + (layers - 1) * [hidden]:
        steps += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*steps)


def mlp(
    inputs: int, hidden: int, outputs: int, *, layers: int = 1, dropout: float = 0.0
) -> nn.Sequential:
    """`features` and a linear read-out: (..., inputs) -> (..., outputs)."""
    body = features(inputs, hidden, layers=layers, dropout=dropout)
    return nn.Sequential(*body, nn.Linear(hidden, outputs))
