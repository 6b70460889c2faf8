r"""Mixture of VAEs: a cell belongs to one of K regimes, each with its own decoder.

    y_n  ~ Categorical(weights)                                      regime of cell n
    z_n  ~ Normal(0, I_D)                                            state within the regime
    m_n  = library_n * softmax(log average + decode_y(z_n))          mean counts
    x_ng ~ NegativeBinomial(mean = m_ng, dispersion = theta_g)       counts

    site    kind      plate  event
    regime  latent    cells  ()
    z       latent    cells  (D,)
    x       observed  cells  (G,)

States can be compared within a regime only: the axes of two decoders are unrelated, and the mean
of z over q(y | x), which `embed` returns, is meaningful only where one regime is by far the most
likely. So compare states of cells of one regime, found by `guide.classify(x)`.

Decoders with equal initial values do not specialise: the guide splits the cells along the
direction of greatest variance, and a regime may lose all its cells. So each decoder starts at the
centre of one component of a mixture of Gaussians over `examples`, cells of the data, in principal
components.

Jacobs et al., Neural Computation 1991, https://doi.org/10.1162/neco.1991.3.1.79
Dilokthanakul et al., 2016, https://arxiv.org/abs/1611.02648
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..nn import MLPs
from ..parts import NegativeBinomial, StandardNormal, centres


class MixtureOfVAEs(PyroModule):
    """p(y) p(z) p(x | z, y, library); pass another `prior` or `likelihood` to swap an edge.

    `average` (G,) is the composition of the average cell, from the data.
    """

    def __init__(
        self,
        genes: int,
        average: Tensor | None = None,
        examples: Tensor | None = None,
        regimes: int = 3,
        latent: int = 10,
        hidden: int = 128,
        decoder_dropout: float = 0.1,
        prior: nn.Module | None = None,
        likelihood: nn.Module | None = None,
    ) -> None:
        super().__init__("MixtureOfVAEs")
        self.logits = nn.Parameter(torch.zeros(regimes))  # (K,)
        self.prior = prior or StandardNormal(latent)
        self.decode = MLPs(regimes, latent, hidden, genes, dropout=decoder_dropout)
        self.likelihood = likelihood or NegativeBinomial(genes, average)
        if examples is not None:
            self.decode.start_at(centres(examples, regimes))

    def forward(self, library: Tensor, x: Tensor | None = None) -> Tensor:
        with pyro.plate("cells", len(library)):
            y = pyro.sample("regime", dist.Categorical(logits=self.logits))  # (N,)
            z = pyro.sample("z", self.prior())  # (N, D)
            eta = self.decode(z, y)  # (N, G)
            return pyro.sample("x", self.likelihood(eta, library), obs=x)  # (N, G)
