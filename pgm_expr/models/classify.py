r"""VAE with a classifier: states predict a label, which is observed for some cells.

    z_n     ~ Normal(0, I_D)                                        state of cell n
    label_n ~ Categorical(softmax(head(z_n)))                       observed for some cells
    m_n     = library_n * softmax(log average + decode(z_n))        mean counts
    x_ng    ~ NegativeBinomial(mean = m_ng, dispersion = theta_g)   counts

    site   kind      plate  event
    z      latent    cells  (D,)
    label  observed  cells  ()
    x      observed  cells  (G,)

A label of -1 is missing. `supervision` of the training weighs labels against counts: 1 is the
story as written, 0 the story `vae`, and above 1 labels shape states more than their likelihood.

Kingma et al., NeurIPS 2014, https://arxiv.org/abs/1406.5298
"""

from __future__ import annotations

from typing import ClassVar

import pyro
from pyro import poutine
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..nn import mlp
from ..parts import ClassHead, NegativeBinomial, StandardNormal


class Classify(PyroModule):
    """p(z) p(label | z) p(x | z, library); pass another `prior` or `likelihood` to swap."""

    supervised: ClassVar[tuple[str, ...]] = ("label",)

    def __init__(
        self,
        genes: int,
        labels: int,
        average: Tensor | None = None,
        latent: int = 10,
        hidden: int = 128,
        decoder_dropout: float = 0.1,
        prior: nn.Module | None = None,
        likelihood: nn.Module | None = None,
    ) -> None:
        super().__init__("Classify")
        self.prior = prior or StandardNormal(latent)
        self.decode = mlp(latent, hidden, genes, dropout=decoder_dropout)
        self.likelihood = likelihood or NegativeBinomial(genes, average)
        self.head = ClassHead(latent, labels)

    def forward(self, library: Tensor, label: Tensor, x: Tensor | None = None) -> Tensor:
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z", self.prior())  # (N, D)
            with poutine.mask(mask=label >= 0):  # type: ignore[call-overload]
                pyro.sample("label", self.head(z), obs=label.clamp_min(0))  # (N,)
            eta = self.decode(z)  # (N, G)
            return pyro.sample("x", self.likelihood(eta, library), obs=x)  # (N, G)
