r"""Hierarchical VAE: type, state and technique of a cell, each with its own prior.

    z_type_n      ~ Normal(loc(label_n), scale(label_n)^2)                cell type
    z_state_n     ~ Normal(loc(condition_n), scale(condition_n)^2)        cell state
    z_technical_n ~ Normal(loc(batch_n), scale(batch_n)^2)                technical state
    h_n           = features((z_type_n, z_state_n, z_technical_n), gated by batch_n)
    m_n           = library_n * softmax(log average + decode(h_n))        mean counts
    x_ng          ~ NegativeBinomial(mean = m_ng, dispersion = theta_g)   counts

    site         kind      plate  event
    z_type       latent    cells  (D,)
    z_state      latent    cells  (D,)
    z_technical  latent    cells  (D,)
    x            observed  cells  (G,)

Label, condition and batch are in the priors, so that encoding them costs no nats in their own
latent and some in the others. The batch gates the decoder: its effect may differ between types.
Without a label, which in training is hidden from a share `label_dropout` of the others too, z_type
comes from the mixture of all labels: the bound is on log p(x | observed label, condition, batch).

Sonderby et al., NeurIPS 2016, https://arxiv.org/abs/1602.02282
"""

from __future__ import annotations

from typing import ClassVar

import pyro
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..nn import concat
from ..parts import Covariates, Gated, NegativeBinomial, NormalByEffects, NormalByLabel, OneHot


class Hierarchical(PyroModule):
    """p(z_type | label) p(z_state | condition) p(z_technical | batch) p(x | z, batch, library).

    Pass another `likelihood` to swap that edge.
    """

    held: ClassVar[tuple[str, ...]] = ("label", "condition", "batch")  # encoded by latents

    def __init__(
        self,
        genes: int,
        labels: int,
        conditions: int = 0,
        batches: int = 0,
        average: Tensor | None = None,
        latent_type: int = 5,
        latent_state: int = 5,
        latent_technical: int = 3,
        hidden: int = 128,
        decoder_dropout: float = 0.1,
        label_dropout: float = 0.5,
        likelihood: nn.Module | None = None,
    ) -> None:
        super().__init__("Hierarchical")
        self.label = OneHot(labels, label_dropout)
        self.condition = Covariates(conditions)
        self.batch = OneHot(batches)
        self.type_prior = NormalByLabel(labels, latent_type)
        self.state_prior = NormalByEffects(conditions, latent_state)
        self.technical_prior = NormalByEffects(batches, latent_technical)
        latent = latent_type + latent_state + latent_technical
        self.features = Gated(latent, batches, hidden, decoder_dropout)
        self.decode = nn.Linear(hidden, genes)
        self.likelihood = likelihood or NegativeBinomial(genes, average)

    def forward(
        self,
        library: Tensor,
        label: Tensor | None = None,
        condition: Tensor | None = None,
        batch: Tensor | None = None,
        x: Tensor | None = None,
    ) -> Tensor:
        label = self.label(label, library)  # (N, K)
        condition = self.condition(condition, library)  # (N, C)
        batch = self.batch(batch, library)  # (N, B)
        with pyro.plate("cells", len(library)):
            z_type = pyro.sample("z_type", self.type_prior(label))  # (N, D)
            z_state = pyro.sample("z_state", self.state_prior(condition))  # (N, D)
            z_technical = pyro.sample("z_technical", self.technical_prior(batch))  # (N, D)
            h = self.features(concat(z_type, z_state, z_technical), batch)  # (N, H)
            return pyro.sample("x", self.likelihood(self.decode(h), library), obs=x)  # (N, G)
