r"""Baselines without a latent state: negative binomials per gene and label.

    x_ng ~ NB(library_n * share_[c_n] g, theta_g)

with one composition for all cells (per-gene NB) or one per label (per-label NB, E[x | c]).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ...distributions import NegativeBinomial

STEPS = 60


class Baseline(NamedTuple):
    """A fitted baseline.

    Parameters
    ----------
    log_share
        Log compositions by label, (K + 1, G); the last row is the pooled one.
    log_dispersion
        Log dispersions theta, (G,).
    """

    log_share: Tensor
    log_dispersion: Tensor

    def log_prob(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """log p(x | library, label) of each cell, (N,), nats.

        Parameters
        ----------
        x
            Counts, (N, G).
        label
            Codes, (N,). Cells of label -1, and all cells by default, have the pooled composition.
        """
        return self.predict(x.sum(-1, keepdim=True), label).log_prob(x)

    def predict(self, library: Tensor, label: Tensor | None = None) -> TorchDistribution:
        """Distribution of the counts of cells of these libraries (N, 1), event shape (G,)."""
        rows = self.log_share[-1:] if label is None else self.log_share[label]
        return NegativeBinomial(library.log() + rows, self.log_dispersion).to_event(1)


def fit_baseline(x: Tensor, label: Tensor | None = None, labels: int = 0) -> Baseline:
    """Fit a baseline: compositions by sums, dispersions by maximum likelihood.

    The composition of a label is shrunk by one cell's worth of the pooled one, so that genes
    without a count in a small label keep a positive share.

    Parameters
    ----------
    x
        Training counts, (N, G).
    label
        Codes of the cells, (N,), -1 for unlabelled ones.
    labels
        Number of labels.

    Examples
    --------
    >>> baseline = fit_baseline(torch.tensor([[1.0, 3.0], [2.0, 6.0], [0.0, 4.0]]))
    >>> [round(share, 2) for share in baseline.log_share.exp()[0].tolist()]
    [0.21, 0.79]
    >>> baseline.log_prob(torch.tensor([[1.0, 3.0]])).shape
    torch.Size([1])
    """
    pooled = _shares(x.sum(0), torch.ones(x.shape[1]) * 0.5)
    shares = [_shares(x[label == k].sum(0), pooled * x.sum(-1).median()) for k in range(labels)]
    log_share = torch.stack([*shares, pooled]).log()
    rows = log_share[-1:] if label is None else log_share[label]
    log_mean = x.sum(-1, keepdim=True).log() + rows  # (N, G)
    log_dispersion = torch.zeros(x.shape[1], requires_grad=True)
    # each gene is a problem of its own: Rprop steps by sign and size per parameter
    optimizer = torch.optim.Rprop([log_dispersion], lr=0.5, step_sizes=(1e-3, 2.0))
    for _ in range(STEPS):
        optimizer.zero_grad()
        (-NegativeBinomial(log_mean, log_dispersion).log_prob(x).sum()).backward()
        optimizer.step()
        log_dispersion.data.clamp_(-10, 10)
    return Baseline(log_share, log_dispersion.detach())


def _shares(counts: Tensor, prior: Tensor) -> Tensor:
    return (counts + prior) / (counts + prior).sum()
