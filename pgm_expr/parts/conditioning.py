"""Annotations of a cell as columns, in networks, and in the priors of its latents."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..nn import concat
from .priors import bounded

APART = -1.0  # initial log scale of an annotated cell's prior, where locs differ by about 1


class OneHot(nn.Module):
    """The level of a cell, such as its label, as one column a level; all 0 where it is missing.

    Called with level (N,) int64 or None and library (N, 1), returns (N, levels). A level of -1 is
    missing; all are where level is None, and in training a share `dropout` of them.

    Parameters
    ----------
    levels
        Number of levels.
    dropout
        Share of levels that are treated as missing in training mode.

    Examples
    --------
    >>> import torch
    >>> encode = OneHot(levels=3)
    >>> encode(torch.tensor([2, -1]), torch.ones(2, 1))
    tensor([[0., 0., 1.],
            [0., 0., 0.]])
    """

    rows: Tensor

    def __init__(self, levels: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        rows = torch.cat([torch.eye(levels), torch.zeros(1, levels)])
        self.register_buffer("rows", rows, persistent=False)  # (K + 1, K), the last is missing
        self.dropout = dropout

    def forward(self, level: Tensor | None, library: Tensor) -> Tensor:
        if level is None:
            level = torch.full_like(library.squeeze(-1), -1, dtype=torch.long)
        if self.training and self.dropout:
            kept = torch.rand(level.shape, device=level.device) >= self.dropout
            level = level.where(kept, -1)
        return self.rows.index_select(0, level % len(self.rows))


class Covariates(nn.Module):
    """The covariates of a cell, with 0, the value of an average cell, where they are missing.

    Called with condition (N, C) or None and library (N, 1), returns (N, C). NaN is missing.

    Parameters
    ----------
    conditions
        Number of encoded covariates C.

    Examples
    --------
    >>> import torch
    >>> Covariates(conditions=2)(torch.tensor([[1.5, torch.nan]]), torch.ones(1, 1))
    tensor([[1.5000, 0.0000]])
    """

    def __init__(self, conditions: int = 0) -> None:
        super().__init__()
        self.conditions = conditions

    def forward(self, condition: Tensor | None, library: Tensor) -> Tensor:
        if condition is None:
            return library.new_zeros(len(library), self.conditions)
        return condition.nan_to_num()


class Gated(nn.Module):
    """Features of x that c shifts and gates: relu(weights (x, c)) * (1 + gates c), then dropout.

    The effect of c may differ with x, as a protocol's effect differs between cell types, and x
    need not encode it. Called with x (..., inputs) and c (..., conditions), returns
    (..., hidden).

    Parameters
    ----------
    inputs
        Size of x.
    conditions
        Size of c.
    hidden
        Number of features.
    dropout
        Dropout of the features.

    Examples
    --------
    >>> import torch
    >>> c = torch.eye(2)[[0, 1, 0, 0, 1]]
    >>> Gated(inputs=3, conditions=2, hidden=8)(torch.randn(5, 3), c).shape
    torch.Size([5, 8])
    """

    def __init__(self, inputs: int, conditions: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.weights = nn.Linear(inputs + conditions, hidden)
        self.gates = nn.Parameter(torch.zeros(conditions, hidden))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.dropout(self.weights(concat(x, c)).relu() * (1 + c @ self.gates))


class NormalByLabel(nn.Module):
    """p(z | label) = Normal(loc_label, scale_label^2); their mixture where the label is missing.

    Called with label (N, K), one-hot or all 0, returns a distribution of batch shape (N,) and
    event shape (D,). Starts as `NormalByEffects` does: labels apart, their cells narrow around
    them.

    Parameters
    ----------
    labels
        Number of labels K.
    latent
        Latent dimensions D.

    Examples
    --------
    >>> import torch
    >>> prior = NormalByLabel(labels=3, latent=2)
    >>> label = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])  # the second cell is unlabelled
    >>> bool(prior(label).mean[0].allclose(prior.loc[2]))
    True
    """

    def __init__(self, labels: int, latent: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(labels))  # frequencies of labels
        self.loc = nn.Parameter(torch.randn(labels, latent))
        self.log_scale = nn.Parameter(torch.full((labels, latent), APART))

    def forward(self, label: Tensor) -> dist.TorchDistribution:
        labelled = label.any(-1, keepdim=True)
        logits = torch.where(labelled, label.log(), self.logits.log_softmax(-1))  # (N, K)
        normals = dist.Normal(self.loc, bounded(self.log_scale)).to_event(1)
        kinds = dist.Categorical(logits=logits)
        return dist.MixtureSameFamily(kinds, normals.expand(logits.shape))

    def at(self, weights: Tensor) -> dist.TorchDistribution:
        """The normal of one label, or, at `weights` (N, K), between several."""
        scale = bounded(weights @ self.log_scale)
        return dist.Normal(weights @ self.loc, scale).to_event(1)


class NormalByEffects(nn.Module):
    """p(z | c) = Normal(loc + c effects, scale(c)^2): effects of annotations add up.

    Called with c (N, C), returns a distribution of batch shape (N,) and event shape (D,). A cell
    without annotations has c = 0, where the prior starts at Normal(0, I). Levels start apart, at
    draws of Normal(0, I) with narrow scales, so that z contains the annotations from the first
    step at no cost. Scales stay within a factor of 50 of 1, and no weight decay acts on effects.

    Parameters
    ----------
    features
        Number of encoded annotations C.
    latent
        Latent dimensions D.

    Examples
    --------
    >>> import torch
    >>> prior = NormalByEffects(features=4, latent=2)
    >>> unannotated = prior(torch.zeros(1, 4))
    >>> unannotated.mean.tolist(), unannotated.stddev.tolist()
    ([[0.0, 0.0]], [[1.0, 1.0]])
    """

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(latent))
        self.log_scale = nn.Parameter(torch.zeros(latent))
        self.loc_effect = nn.Parameter(torch.randn(features, latent))
        self.log_scale_effect = nn.Parameter(torch.full((features, latent), APART))

    def forward(self, c: Tensor) -> dist.TorchDistribution:
        scale = bounded(self.log_scale + c @ self.log_scale_effect)
        return dist.Normal(self.loc + c @ self.loc_effect, scale).to_event(1)
