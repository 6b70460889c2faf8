"""Parts that know which gene belongs to which set: from activities to genes and back."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import pad, softplus


class GeneSetDecoder(nn.Module):
    r"""eta = z W + base, where W_sg is 0 unless gene g belongs to set s.

    The sign of an activity z_s is its genes': the weights of a set are positive on average, one
    of them may be negative. `gene_sets` (S, G) holds 0 and 1. Where some genes are in no set,
    `unannotated` further rows are theirs alone, which take no set's place: their weights are 0 on
    average, since all of these genes up would look like all sets down.
    call(z (..., S + U)) -> (..., G).
    """

    def __init__(self, gene_sets: Tensor, unannotated: int = 0) -> None:
        super().__init__()
        free = (gene_sets.sum(0) == 0).to(gene_sets)
        others = free.expand(unannotated if free.any() else 0, -1)
        self.register_buffer("belongs", torch.cat([gene_sets, others]))  # (S + U, G)
        self.raw_average = nn.Parameter(torch.full((len(gene_sets), 1), -1.0))
        self.contrast = nn.Parameter(0.1 * torch.randn(self.belongs.shape))
        self.base = nn.Parameter(torch.zeros(self.belongs.shape[1]))

    @property
    def weights(self) -> Tensor:
        """W, (S + U, G): log fold change of each gene when an activity rises by 1."""
        size = self.belongs.sum(-1, keepdim=True).clamp(min=1)
        contrast = self.belongs * self.contrast
        centred = contrast - contrast.sum(-1, keepdim=True) / size
        others = len(self.belongs) - len(self.raw_average)
        average = pad(softplus(self.raw_average), (0, 0, 0, others))  # 0 where unannotated
        return self.belongs * (average + centred)

    def forward(self, z: Tensor) -> Tensor:
        return z @ self.weights + self.base


class GeneSetEvidence(nn.Module):
    r"""What counts say of each activity: Normal(sum_g A_sg log(1 + x_g) + loc(h)_s, scale(h)_s^2).

    A_sg is 0 unless gene g belongs to set s (`belongs` (S, G) says so) and starts as the mean of
    those; the features h add what other genes tell, such as the depth of the cell.
    call(features (..., hidden), log counts (..., G)) -> event shape (S,).
    """

    def __init__(self, hidden: int, belongs: Tensor) -> None:
        super().__init__()
        self.register_buffer("belongs", belongs.clone())  # (S, G)
        self.own = nn.Parameter(belongs / belongs.sum(-1, keepdim=True).clamp(min=1))
        self.loc = nn.Linear(hidden, len(belongs))
        self.raw_scale = nn.Linear(hidden, len(belongs))

    def forward(self, features: Tensor, log_counts: Tensor) -> dist.TorchDistribution:
        loc = log_counts @ (self.belongs * self.own).T + self.loc(features)
        return dist.Normal(loc, softplus(self.raw_scale(features)) + 1e-4).to_event(1)
