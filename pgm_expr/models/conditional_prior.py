r"""Conditional VAE with a learned prior p(z | c), from which cells of a condition are drawn.

    z_n  ~ sum_m weight_m(c_n) Normal(loc_m, scale_m^2)                   state of cell n
    m_n  = library_n * softmax(log average + decode(z_n gated by c_n))    mean counts
    x_ng ~ NegativeBinomial(mean = m_ng, dispersion = theta_g)            counts

    site  kind      plate  event
    z     latent    cells  (D,)
    x     observed  cells  (G,)

c_n are the batch and covariates of the cell. All cells share the modes m; c_n sets the weight of
each mode, and the expression of each state through the decoder. Effects on log weights are
additive, so that unseen combinations of seen levels have a prior. A cell without covariates has
the prior learned for such cells (see `condition_dropout`).

Sohn, Lee and Yan, NeurIPS 2015, https://papers.nips.cc/paper/5775
"""

from __future__ import annotations

import pyro
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..parts import ConditionalMixture, Gated, Metadata, NegativeBinomial


class ConditionalPrior(PyroModule):
    """p(z | c) p(x | z, c, library); pass another `likelihood` to swap that edge."""

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
        modes: int = 20,
        likelihood: nn.Module | None = None,
    ) -> None:
        super().__init__("ConditionalPrior")
        self.metadata = Metadata(conditions, batches, condition_dropout)
        self.prior = ConditionalMixture(self.metadata.features, latent, modes)
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
            z = pyro.sample("z", self.prior(c))  # (N, D)
            eta = self.decode(self.features(z, c))  # (N, G)
            return pyro.sample("x", self.likelihood(eta, library), obs=x)  # (N, G)
