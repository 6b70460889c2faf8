r"""Links: modules that map a decoder's output and the library to log means.

eta (..., N, G) is the log fold change of each gene against the average cell, `library` (N, 1)
the sum of the counts over the modelled genes, and `average` (G,) the composition of the training
cells, filled from the data (uniform where none is given).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class _Link(nn.Module):
    """Owns log_average (G,), which follows `.to(device)` and is saved with the weights."""

    log_average: Tensor

    def __init__(self, genes: int, average: Tensor | None = None) -> None:
        super().__init__()
        uniform = torch.full((genes,), 1 / genes)
        self.register_buffer("log_average", (uniform if average is None else average).log())


class Composition(_Link):
    """mean_g = library * softmax(log average + eta)_g: the means add up to the library.

    Called with eta (..., N, G) and library (N, 1), returns log means (..., N, G).

    Parameters
    ----------
    genes
        Number of modelled genes G.
    average
        Composition of the average cell, (G,), summing to 1; uniform by default.

    Examples
    --------
    >>> import torch
    >>> link = Composition(genes=4)
    >>> link(torch.zeros(1, 4), torch.tensor([[100.0]])).exp().round()
    tensor([[25., 25., 25., 25.]])
    """

    def forward(self, eta: Tensor, library: Tensor) -> Tensor:
        return library.log() + (self.log_average + eta).log_softmax(-1)


class Rate(_Link):
    """mean_g = library * average_g * exp(eta_g): genes are independent, their sum is not fixed.

    Called with eta (..., N, G) and library (N, 1), returns log means (..., N, G).

    Parameters
    ----------
    genes
        Number of modelled genes G.
    average
        Composition of the average cell, (G,), summing to 1; uniform by default.

    Examples
    --------
    >>> import torch
    >>> link = Rate(genes=4)
    >>> eta = torch.tensor([[2.0, 1.0, 1.0, 1.0]]).log()  # the first gene doubles
    >>> link(eta, torch.tensor([[100.0]])).exp().round()
    tensor([[50., 25., 25., 25.]])
    """

    def forward(self, eta: Tensor, library: Tensor) -> Tensor:
        return library.log() + self.log_average + eta
