"""Parts with gene-set membership: from activities of sets to genes and back."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import pad, softplus


class GeneSetDecoder(nn.Module):
    r"""eta = z W + base, where W_sg is 0 unless gene g belongs to set s.

    The weights of a set are positive on average, though single ones may be negative, so that an
    activity z_s has the sign of its genes. Genes in no set share `unannotated` additional rows,
    whose weights are 0 on average: otherwise, raising all these genes would be the same as
    lowering all sets. Called with z (..., S + U), returns eta (..., G).

    Parameters
    ----------
    gene_sets
        Membership of G genes in S sets, (S, G), 0 or 1.
    unannotated
        Number U of additional rows for genes in no set; 0 if every gene is in one.

    Examples
    --------
    >>> import torch
    >>> gene_sets = torch.tensor([[1.0, 1, 0, 0], [0, 1, 1, 0]])
    >>> decoder = GeneSetDecoder(gene_sets, unannotated=1)
    >>> decoder(torch.randn(7, 3)).shape
    torch.Size([7, 4])
    >>> (decoder.weights != 0).int().tolist()[:2]
    [[1, 1, 0, 0], [0, 1, 1, 0]]
    """

    belongs: Tensor

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
    r"""q(y_s | x) = Normal(sum_g A_sg log(1 + x_g) + loc(h)_s, scale(h)_s^2).

    The evidence of counts for the activity of each set. A_sg is 0 unless gene g belongs to set s,
    and starts as the mean over the set's genes. The features h add what depends on other genes,
    such as the cell's depth. Called with features (..., hidden) and log counts (..., G), returns a
    distribution of event shape (S,).

    Parameters
    ----------
    hidden
        Number of features.
    belongs
        Membership of genes in sets, (S, G), 0 or 1.

    Examples
    --------
    >>> import torch
    >>> part = GeneSetEvidence(hidden=8, belongs=torch.tensor([[1.0, 1, 0, 0], [0, 1, 1, 0]]))
    >>> part(torch.randn(7, 8), torch.ones(7, 4).log1p()).event_shape
    torch.Size([2])
    """

    belongs: Tensor

    def __init__(self, hidden: int, belongs: Tensor) -> None:
        super().__init__()
        self.register_buffer("belongs", belongs.clone())  # (S, G)
        self.own = nn.Parameter(belongs / belongs.sum(-1, keepdim=True).clamp(min=1))
        self.loc = nn.Linear(hidden, len(belongs))
        self.raw_scale = nn.Linear(hidden, len(belongs))

    def forward(self, features: Tensor, log_counts: Tensor) -> dist.TorchDistribution:
        loc = log_counts @ (self.belongs * self.own).T + self.loc(features)
        return dist.Normal(loc, softplus(self.raw_scale(features)) + 1e-4).to_event(1)
