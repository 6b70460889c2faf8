r"""VAE with a linear decoder: every latent dimension has a loading for each gene.

    z_n  ~ Normal(0, I_D)                                          state of cell n
    m_n  = library_n * softmax(log average + base + z_n W)         mean counts
    x_ng ~ NegativeBinomial(mean = m_ng, dispersion = theta_g)     counts

    site  kind      plate  event
    z     latent    cells  (D,)
    x     observed  cells  (G,)

W (D, G) are the loadings: one unit of z_d changes the log mean of gene g by W_dg. A softmax
ignores what a row adds to all genes, so genes are compared within a row. The prior N(0, I)
determines the span of the rows, not the rows: two dimensions of equal variance may be rotated.
With the likelihood `gaussian`, isotropic, this is probabilistic PCA.

Svensson et al., Bioinformatics 2020, https://doi.org/10.1093/bioinformatics/btaa169
Tipping and Bishop, JRSS B 1999, https://doi.org/10.1111/1467-9868.00196
"""

from __future__ import annotations

import pyro
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..parts import NegativeBinomial, StandardNormal


class LinearVAE(PyroModule):
    """p(z) p(x | z W, library); pass another `prior` or `likelihood` to swap an edge.

    `average` (G,) is the composition of the average cell, from the data.
    """

    def __init__(
        self,
        genes: int,
        average: Tensor | None = None,
        latent: int = 10,
        prior: nn.Module | None = None,
        likelihood: nn.Module | None = None,
    ) -> None:
        super().__init__("LinearVAE")
        self.prior = prior or StandardNormal(latent)
        self.decode = nn.Linear(latent, genes)
        self.likelihood = likelihood or NegativeBinomial(genes, average)

    def forward(self, library: Tensor, x: Tensor | None = None) -> Tensor:
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z", self.prior())  # (N, D)
            eta = self.decode(z)  # (N, G)
            return pyro.sample("x", self.likelihood(eta, library), obs=x)  # (N, G)

    @property
    def loadings(self) -> Tensor:
        """W: change of the log mean of each gene per unit of each latent dimension, (D, G)."""
        return self.decode.weight.detach().T
