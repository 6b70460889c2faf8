r"""Genes, pathways and programs: pathways decode to their genes, programs to pathways.

    z_n  ~ Normal(0, I_D)                                          programs of cell n
    y_n  ~ Normal(L z_n, diag(1 - |L_s|^2))                        activity of each pathway
    m_n  = library_n * softmax(log average + y_n W + base)         mean counts
    x_ng ~ NegativeBinomial(mean = m_ng, dispersion = theta_g)     counts

    site       kind      plate  event
    z_program  latent    cells  (D,)
    z_pathway  latent    cells  (S,)
    x          observed  cells  (G,)

There is one pathway for each gene set, and W_sg is 0 unless gene g belongs to set s. A few more
pathways decode to the genes in no set, and have no program. Activities have variance 1, so that
W (S, G) holds log fold changes per standard deviation, and L (S, D) correlations of pathways with
programs. W is positive on average over a set: a pathway is up where most of its genes are.
Programs are determined up to rotation and sign.

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

    `gene_sets` (S, G) holds 1 where a gene belongs to a set, else 0. Genes in no set have
    `unannotated` pathways, the last of the S: all genes share the counts of a cell, so that
    without them a change of these genes would look like a change of the pathways.
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
