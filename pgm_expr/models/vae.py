r"""VAE of raw counts: one latent state per cell.

    z_n  ~ Normal(0, I_D)                                          state of cell n
    m_n  = library_n * softmax(log average + decode(z_n))          mean counts
    x_ng ~ NegativeBinomial(mean = m_ng, dispersion = theta_g)     counts

    site  kind      plate  event
    z     latent    cells  (D,)
    x     observed  cells  (G,)

Lopez et al., Nature Methods 2018, https://doi.org/10.1038/s41592-018-0229-2
"""

from __future__ import annotations

import pyro
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..nn import mlp
from ..parts import NegativeBinomial, StandardNormal


class VAE(PyroModule):
    """p(z) p(x | z, library); pass another `prior` or `likelihood` to swap an edge.

    `average` (G,) is the composition of the average cell, from the data.
    """

    def __init__(
        self,
        genes: int,
        average: Tensor | None = None,
        latent: int = 10,
        hidden: int = 128,
        decoder_dropout: float = 0.1,
        prior: nn.Module | None = None,
        likelihood: nn.Module | None = None,
    ) -> None:
        super().__init__("VAE")
        self.prior = prior or StandardNormal(latent)
        self.decode = mlp(latent, hidden, genes, dropout=decoder_dropout)
        self.likelihood = likelihood or NegativeBinomial(genes, average)

    def forward(self, library: Tensor, x: Tensor | None = None) -> Tensor:
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z", self.prior())  # (N, D)
            eta = self.decode(z)  # (N, G)
            return pyro.sample("x", self.likelihood(eta, library), obs=x)  # (N, G)
