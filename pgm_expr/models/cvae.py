r"""Conditional VAE: the decoder depends on batch and covariates, states are what remains.

    z_n  ~ Normal(0, I_D)                                                 state of cell n
    m_n  = library_n * softmax(log average + decode(z_n gated by c_n))    mean counts
    x_ng ~ NegativeBinomial(mean = m_ng, dispersion = theta_g)            counts

    site  kind      plate  event
    z     latent    cells  (D,)
    x     observed  cells  (G,)

c_n are the batch and covariates of the cell. The prior does not depend on them, so the state
needs to encode only what they do not explain: conditioned on batches it is corrected for them,
conditioned on a treatment it is what a cell keeps under any treatment. They gate the decoder,
because their effects may differ between types of cells. Where they are confounded with types
(drug on one type, vehicle on another), a prior without c is wrong, and differences between types
are attributed to c: use `conditional_prior`.

Sohn, Lee and Yan, NeurIPS 2015, https://papers.nips.cc/paper/5775
Lopez et al., Nature Methods 2018, https://doi.org/10.1038/s41592-018-0229-2
"""

from __future__ import annotations

import pyro
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..parts import Gated, Metadata, NegativeBinomial, StandardNormal


class CVAE(PyroModule):
    """p(z) p(x | z, c, library); pass another `prior` or `likelihood` to swap an edge."""

    def __init__(
        self,
        genes: int,
        conditions: int = 0,
        batches: int = 0,
        average: Tensor | None = None,
        latent: int = 10,
        hidden: int = 128,
        decoder_dropout: float = 0.1,
        condition_dropout: float = 0.0,
        prior: nn.Module | None = None,
        likelihood: nn.Module | None = None,
    ) -> None:
        super().__init__("CVAE")
        self.prior = prior or StandardNormal(latent)
        self.metadata = Metadata(conditions, batches, condition_dropout)
        self.features = Gated(latent, self.metadata.features, hidden, decoder_dropout)
        self.decode = nn.Linear(hidden, genes)
        self.likelihood = likelihood or NegativeBinomial(genes, average)

    def forward(
        self,
        library: Tensor,
        condition: Tensor | None = None,
        batch: Tensor | None = None,
        x: Tensor | None = None,
    ) -> Tensor:
        c = self.metadata(condition, batch)  # (N, C)
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z", self.prior())  # (N, D)
            eta = self.decode(self.features(z, c))  # (N, G)
            return pyro.sample("x", self.likelihood(eta, library), obs=x)  # (N, G)
