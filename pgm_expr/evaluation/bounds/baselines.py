r"""The naive rivals of every table: negative binomials without a latent state.

    x_ng ~ NB(library_n * share_[c_n] g, theta_g)

with one composition for all cells (per-gene NB) or one a label (per-label NB, E[x | c]).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ...distributions import NegativeBinomial

STEPS = 60


class Baseline(NamedTuple):
    """Compositions by label, (K + 1, G) with the pooled one last, and dispersions (G,)."""

    log_share: Tensor
    log_dispersion: Tensor

    def log_prob(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """log p(x | library, label) of each cell, (N,); label -1 and None use pooled shares."""
        return self.predict(x.sum(-1, keepdim=True), label).log_prob(x)

    def predict(self, library: Tensor, label: Tensor | None = None) -> TorchDistribution:
        """Counts of cells of these libraries (N, 1): event shape (G,)."""
        rows = self.log_share[-1:] if label is None else self.log_share[label]
        return NegativeBinomial(library.log() + rows, self.log_dispersion).to_event(1)


def fit_baseline(x: Tensor, label: Tensor | None = None, labels: int = 0) -> Baseline:
    """Fit on training counts x (N, G): shares by sums, dispersions by maximum likelihood.

    A label's composition is shrunk by one cell's worth of the pooled one, so that genes unseen in
    a small label keep a positive share. Each dispersion is its own one-dimensional problem:
    Rprop, which steps by sign and size per parameter, solves them side by side.
    """
    pooled = _shares(x.sum(0), torch.ones(x.shape[1]) * 0.5)
    shares = [_shares(x[label == k].sum(0), pooled * x.sum(-1).median()) for k in range(labels)]
    log_share = torch.stack([*shares, pooled]).log()
    log_mean = _log_mean(log_share, x, label)
    log_dispersion = torch.zeros(x.shape[1], requires_grad=True)
    optimizer = torch.optim.Rprop([log_dispersion], lr=0.5, step_sizes=(1e-3, 2.0))
    for _ in range(STEPS):
        optimizer.zero_grad()
        (-NegativeBinomial(log_mean, log_dispersion).log_prob(x).sum()).backward()
        optimizer.step()
        log_dispersion.data.clamp_(-10, 10)
    return Baseline(log_share, log_dispersion.detach())


def _shares(counts: Tensor, prior: Tensor) -> Tensor:
    return (counts + prior) / (counts + prior).sum()


def _log_mean(log_share: Tensor, x: Tensor, label: Tensor | None) -> Tensor:
    """log(library * share of the cell's label), (N, G)."""
    rows = log_share[-1:] if label is None else log_share[label]
    return x.sum(-1, keepdim=True).log() + rows
