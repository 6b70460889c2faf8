r"""Gene, pathway, program: states of pathways speak for their genes, programs for pathways.

    z_n  ~ Normal(0, I_D)                                          programs of cell n
    y_n  ~ Normal(L z_n, diag(1 - |L_s|^2))                        activity of each pathway
    m_n  = library_n * softmax(log average + y_n W + base)         mean counts
    x_ng ~ NegativeBinomial(mean = m_ng, dispersion = theta_g)     counts

    site       kind      plate  event
    z_program  latent    cells  (D,)
    z_pathway  latent    cells  (S,)
    x          observed  cells  (G,)

There is one pathway for each gene set, and W_sg is 0 unless gene g belongs to set s. A few more
have the genes in no set to themselves, and no program. Activities have variance 1, so W holds
log fold changes a standard deviation, and L (S, D) correlations of pathways with programs. W is
positive on average over a set: a pathway is up where most of its genes are. Programs have no
sign, and any rotation of them says the same.

Seninge et al., Nature Communications 2021, https://doi.org/10.1038/s41467-021-26017-0
Lotfollahi et al., Nature Cell Biology 2023, https://doi.org/10.1038/s41556-022-01072-x
Sonderby et al., NeurIPS 2016, https://arxiv.org/abs/1602.02282
"""

from __future__ import annotations

import pyro
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..parts import GeneSetDecoder, Lift, NegativeBinomial, StandardNormal


class Ladder(PyroModule):
    """p(z) p(y | z) p(x | y, library); pass another `prior` or `likelihood` to swap an edge.

    `gene_sets` (S, G) says with 0 and 1 which gene belongs to which set. Genes in no set have
    `unannotated` pathways of their own, the last of the S: the counts of a cell are shared out
    among all genes, so what these do must not look like what the pathways do.
    """

    def __init__(
        self,
        genes: int,
        gene_sets: Tensor,
        average: Tensor | None = None,
        latent: int = 5,
        unannotated: int = 5,
        prior: nn.Module | None = None,
        likelihood: nn.Module | None = None,
    ) -> None:
        super().__init__("Ladder")
        self.prior = prior or StandardNormal(latent)
        self.decode = GeneSetDecoder(gene_sets, unannotated)
        self.lift = Lift(latent, len(gene_sets), free=len(self.decode.belongs) - len(gene_sets))
        self.likelihood = likelihood or NegativeBinomial(genes, average)

    @property
    def loadings(self) -> Tensor:
        """W, (S, G), the unannotated pathways last."""
        return self.decode.weights

    @property
    def programs(self) -> Tensor:
        """L transposed, (D, S): correlation of each program with each pathway."""
        return self.lift.weights.T

    def forward(self, library: Tensor, x: Tensor | None = None) -> Tensor:
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z_program", self.prior())  # (N, D)
            y = pyro.sample("z_pathway", self.lift(z))  # (N, S)
            eta = self.decode(y)  # (N, G)
            return pyro.sample("x", self.likelihood(eta, library), obs=x)  # (N, G)
