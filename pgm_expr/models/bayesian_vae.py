r"""VAE whose gene dispersions are uncertain: a prior replaces the point estimates.

    log theta_g ~ Normal(0, dispersion_scale^2)                        dispersion of gene g
    z_n         ~ Normal(0, I_D)                                       state of cell n
    m_n         = library_n * softmax(log average + decode(z_n))       mean counts
    x_ng        ~ NegativeBinomial(mean = m_ng, dispersion = theta_g)  counts

    site            kind      plate  event
    log_dispersion  latent    -      (G,)
    z               latent    cells  (D,)
    x               observed  cells  (G,)

Lopez et al., Nature Methods 2018, https://doi.org/10.1038/s41592-018-0229-2
"""

from __future__ import annotations

from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..distributions import NegativeBinomial
from ..nn import mlp
from ..parts import Composition, StandardNormal


class BayesianVAE(PyroModule):
    """p(theta) p(z) p(x | z, theta, library); pass another `prior` or `link` to swap an edge."""

    measure: ClassVar[str] = "counts given library"

    def __init__(
        self,
        genes: int,
        average: Tensor | None = None,
        latent: int = 10,
        hidden: int = 128,
        decoder_dropout: float = 0.1,
        dispersion_scale: float = 1.5,
        prior: nn.Module | None = None,
        link: nn.Module | None = None,
    ) -> None:
        super().__init__("BayesianVAE")
        self.prior = prior or StandardNormal(latent)
        self.decode = mlp(latent, hidden, genes, dropout=decoder_dropout)
        self.link = link or Composition(genes, average)
        self.register_buffer("origin", torch.zeros(genes))
        self.dispersion_scale = dispersion_scale

    def forward(self, library: Tensor, x: Tensor | None = None) -> Tensor:
        dispersions = dist.Normal(self.origin, self.dispersion_scale).to_event(1)
        log_dispersion = pyro.sample("log_dispersion", dispersions)  # (G,)
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z", self.prior())  # (N, D)
            log_mean = self.link(self.decode(z), library)  # (N, G)
            likelihood = NegativeBinomial(log_mean, log_dispersion).to_event(1)
            return pyro.sample("x", likelihood, obs=x)  # (N, G)
