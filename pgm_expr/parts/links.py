r"""Links: modules that turn a decoder's output and the library into log means.

eta (..., N, G) is the log fold change of each gene against the average cell, `library` (N, 1)
the sum of the counts over the modelled genes, and `average` (G,) the composition of the training
cells, filled from the data (flat where none is given).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class _Link(nn.Module):
    """Owns log_average (G,), which follows `.to(device)` and is saved with the weights."""

    def __init__(self, genes: int, average: Tensor | None = None) -> None:
        super().__init__()
        flat = torch.full((genes,), 1 / genes)
        self.register_buffer("log_average", (flat if average is None else average).log())


class Composition(_Link):
    """mean_g = library * softmax(log average + eta)_g: the genes share out the library.

    call(eta (..., N, G), library (N, 1)) -> log means (..., N, G).
    """

    def forward(self, eta: Tensor, library: Tensor) -> Tensor:
        return library.log() + (self.log_average + eta).log_softmax(-1)


class Rate(_Link):
    """mean_g = library * average_g * exp(eta_g): every gene for itself, the total is free.

    call(eta (..., N, G), library (N, 1)) -> log means (..., N, G).
    """

    def forward(self, eta: Tensor, library: Tensor) -> Tensor:
        return library.log() + self.log_average + eta
