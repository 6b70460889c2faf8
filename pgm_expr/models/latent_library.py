r"""VAE that infers the library size of each cell instead of conditioning on it.

    z_n     ~ Normal(0, I_D)                                       state of cell n
    log l_n ~ Normal(depth, spread^2)                              library of cell n
    m_n     = l_n * softmax(log average + decode(z_n))             mean counts
    x_ng    ~ NegativeBinomial(mean = m_ng, dispersion = theta_g)  counts

    site         kind      plate  event
    z            latent    cells  (D,)
    log_library  latent    cells  (1,)
    x            observed  cells  (G,)

`depth` and `spread` are the mean and standard deviation of log library over the training cells;
the argument `library` determines only the number of cells.

Lopez et al., Nature Methods 2018, https://doi.org/10.1038/s41592-018-0229-2
"""

from __future__ import annotations

from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..nn import mlp
from ..parts import NegativeBinomial, StandardNormal


class LatentLibrary(PyroModule):
    """p(z) p(library) p(x | z, library); pass another `prior` or `likelihood` to swap an edge."""

    measure: ClassVar[str] = "counts, library inferred"
    nuisance: ClassVar[tuple[str, ...]] = ("log_library",)

    def __init__(
        self,
        genes: int,
        average: Tensor | None = None,
        log_library: Tensor | None = None,
        latent: int = 10,
        hidden: int = 128,
        decoder_dropout: float = 0.1,
        prior: nn.Module | None = None,
        likelihood: nn.Module | None = None,
    ) -> None:
        super().__init__("LatentLibrary")
        self.prior = prior or StandardNormal(latent)
        self.decode = mlp(latent, hidden, genes, dropout=decoder_dropout)
        self.likelihood = likelihood or NegativeBinomial(genes, average)
        depth = torch.tensor([8.0, 1.0]) if log_library is None else log_library
        self.register_buffer("depth", depth.view(2, 1))  # mean, standard deviation

    def forward(self, library: Tensor, x: Tensor | None = None) -> Tensor:
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z", self.prior())  # (N, D)
            log_library = pyro.sample("log_library", dist.Normal(*self.depth).to_event(1))
            eta = self.decode(z)  # (N, G)
            likelihood = self.likelihood(eta, log_library.exp())
            return pyro.sample("x", likelihood, obs=x)  # (N, G)
