r"""VAE with a regression: states predict a number, which is observed for some cells.

    z_n      ~ Normal(0, I_D)                                        state of cell n
    target_n ~ Normal(head(z_n), scale^2)                            observed for some cells
    m_n      = library_n * softmax(log average + decode(z_n))        mean counts
    x_ng     ~ NegativeBinomial(mean = m_ng, dispersion = theta_g)   counts

    site    kind      plate  event
    z       latent    cells  (D,)
    target  observed  cells  (1,)
    x       observed  cells  (G,)

The target is standardised over the training cells; NaN is missing. `supervision` of the training
weighs it against counts: 1 is the story as written, 0 the story `vae`.

Kingma et al., NeurIPS 2014, https://arxiv.org/abs/1406.5298
"""

from __future__ import annotations

from typing import ClassVar

import pyro
from pyro import poutine
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..nn import mlp
from ..parts import NegativeBinomial, StandardNormal, ValueHead


class Regress(PyroModule):
    """p(z) p(target | z) p(x | z, library); pass another `prior` or `likelihood` to swap."""

    supervised: ClassVar[tuple[str, ...]] = ("target",)

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
        super().__init__("Regress")
        self.prior = prior or StandardNormal(latent)
        self.decode = mlp(latent, hidden, genes, dropout=decoder_dropout)
        self.likelihood = likelihood or NegativeBinomial(genes, average)
        self.head = ValueHead(latent)

    def forward(self, library: Tensor, target: Tensor, x: Tensor | None = None) -> Tensor:
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z", self.prior())  # (N, D)
            with poutine.mask(mask=~target.isnan().squeeze(-1)):  # type: ignore[call-overload]
                pyro.sample("target", self.head(z), obs=target.nan_to_num())  # (N, 1)
            eta = self.decode(z)  # (N, G)
            return pyro.sample("x", self.likelihood(eta, library), obs=x)  # (N, G)
