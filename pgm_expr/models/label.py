r"""Semi-supervised VAE: each class is a mixture of shared modes; few labels may suffice.

    y_n     ~ Categorical(share)                                       class of cell n
    z_n     ~ sum_m weight_ym Normal(loc_m, scale_m^2)                 state of cell n, y = y_n
    label_n ~ Categorical(confusion_y)                                 recorded label, if any
    m_n     = library_n * softmax(log average + decode(z_n))           mean counts
    x_ng    ~ NegativeBinomial(mean = m_ng, dispersion = theta_g)      counts

    site   kind      plate  event
    y      latent    cells  ()
    z      latent    cells  (D,)
    label  observed  cells  ()
    x      observed  cells  (G,)

A recorded label is wrong with probability `noise`, and then uniform over the other classes; -1
marks an unlabelled cell. All classes share the modes m and differ in their weights.

Kingma et al., NeurIPS 2014, https://arxiv.org/abs/1406.5298
Xu et al., Molecular Systems Biology 2021, https://doi.org/10.15252/msb.20209620
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..nn import mlp
from ..parts import Confusion, KindsOfNormals, NegativeBinomial


class Label(PyroModule):
    """p(y) p(z | y) p(label | y) p(x | z, library); pass another `likelihood` to swap an edge."""

    def __init__(
        self,
        genes: int,
        labels: int,
        average: Tensor | None = None,
        latent: int = 15,
        hidden: int = 128,
        decoder_dropout: float = 0.1,
        modes: int = 20,
        noise: float = 0.0,
        likelihood: nn.Module | None = None,
    ) -> None:
        super().__init__("Label")
        self.share = nn.Parameter(torch.zeros(labels))  # logits
        self.prior = KindsOfNormals(labels, latent, modes)
        self.confusion = Confusion(labels, noise)
        self.decode = mlp(latent, hidden, genes, dropout=decoder_dropout)
        self.likelihood = likelihood or NegativeBinomial(genes, average)

    def forward(self, library: Tensor, label: Tensor, x: Tensor | None = None) -> Tensor:
        with pyro.plate("cells", len(library)):
            y = pyro.sample("y", dist.Categorical(logits=self.share))  # (N,)
            z = pyro.sample("z", self.prior(y))  # (N, D)
            with poutine.mask(mask=label >= 0):  # type: ignore[call-overload]
                pyro.sample("label", self.confusion(y), obs=label.clamp_min(0))  # (N,)
            eta = self.decode(z)  # (N, G)
            return pyro.sample("x", self.likelihood(eta, library), obs=x)  # (N, G)
