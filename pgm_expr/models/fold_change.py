r"""Fold changes between two groups of profiles: negative binomials with adaptive shrinkage.

    log phi_g   ~ StudentT(4, trend_g, tau)                                  dispersion
    effect_g    ~ prior, a mixture of normals about 0                        log fold change
    intercept_g ~ Normal(average_g, WIDE^2)
    m_ig        = library_i exp(intercept_g + effect_g group_i)              mean counts
    x_ig        ~ NegativeBinomial(mean = m_ig, dispersion = 1 / phi_g)      counts

    site            kind      plate  event
    log_phi         latent           (G,)
    effect          latent           (G,)
    intercept       latent           (G,)
    x               observed  cells  (G,)

The unit is a profile: a cell, or the sum of the cells of a donor. Trend, tau, weights and scales
are fitted to all genes. `evaluation.effects` computes its posterior by quadrature, gene by gene,
so it needs no guide; this page says what is computed, and tests hold the two together.

Stephens, Biostatistics 2017, https://doi.org/10.1093/biostatistics/kxw041
Love et al., Genome Biology 2014, https://doi.org/10.1186/s13059-014-0550-8
"""

from __future__ import annotations

import pyro
from pyro import distributions as dist
from pyro.nn import PyroModule
from torch import Tensor

from ..distributions import NegativeBinomial

WIDE = 10.0  # of intercepts, natural log: as good as flat


class FoldChange(PyroModule):
    """p(effect, intercept, log phi) p(x | group, library).

    Parameters
    ----------
    average, trend
        Log rate and trend of log phi of each gene, (G,).
    tau
        Scale of log phi about its trend.
    prior
        Of one effect; by default a standard normal. Adaptive shrinkage takes a mixture of normals.

    Examples
    --------
    >>> import torch
    >>> story = FoldChange(average=torch.zeros(5), trend=torch.zeros(5), tau=0.5)
    >>> story(torch.ones(4, 1), torch.tensor([[0.0], [0.0], [1.0], [1.0]])).shape
    torch.Size([4, 5])
    """

    def __init__(
        self,
        average: Tensor,
        trend: Tensor,
        tau: float,
        prior: dist.TorchDistribution | None = None,
    ) -> None:
        super().__init__("FoldChange")
        self.average, self.trend, self.tau = average, trend, tau
        self.prior = prior or dist.Normal(0.0, 1.0)

    def forward(self, library: Tensor, condition: Tensor, x: Tensor | None = None) -> Tensor:
        log_phi = pyro.sample("log_phi", dist.StudentT(4, self.trend, self.tau).to_event(1))
        effect = pyro.sample("effect", self.prior.expand(self.average.shape).to_event(1))
        intercept = pyro.sample("intercept", dist.Normal(self.average, WIDE).to_event(1))
        with pyro.plate("cells", len(library)):
            log_mean = library.log() + intercept + effect * condition  # (N, G)
            return pyro.sample("x", NegativeBinomial(log_mean, -log_phi).to_event(1), obs=x)
