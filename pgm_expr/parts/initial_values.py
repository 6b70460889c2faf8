"""Initial values of decoders, from cells of the data."""

from __future__ import annotations

import warnings

import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

COMPONENTS = 10  # principal components of the cells that are clustered
STARTS = 10  # of the clustering; the best is kept


def centres(examples: Tensor, regimes: int) -> Tensor:
    """Approximate log fold change of each cluster's mean against the mean of all cells.

    Clusters are the components of a Gaussian mixture over cells, in principal components of
    log-normalised counts. The seed is drawn from torch's generator.

    Parameters
    ----------
    examples
        Counts of some cells, (M, G).
    regimes
        Number of clusters K.

    Returns
    -------
    Tensor
        Difference of mean log-normalised counts, (K, G).

    Examples
    --------
    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> rates = torch.tensor([[30.0, 5.0, 20.0, 45.0], [5.0, 30.0, 20.0, 45.0]])
    >>> counts = torch.poisson(rates.repeat_interleave(50, 0))
    >>> found = centres(counts, regimes=2)
    >>> bool(found[:, 0].max() > 0.5) and bool(found[:, 2].abs().max() < 0.2)
    True
    """
    totals = examples.sum(-1, keepdim=True)
    profiles = (examples * totals.mean() / totals).log1p()  # (M, G)
    size = min(COMPONENTS, *(side - 1 for side in profiles.shape))
    seed = int(torch.randint(2**31, ()))
    reduced = PCA(size, random_state=seed).fit_transform(profiles.numpy())
    mixture = GaussianMixture(
        regimes, n_init=STARTS, max_iter=500, reg_covar=1e-3, random_state=seed
    )
    with warnings.catch_warnings():  # where cells are fewer than clusters, some start equal
        warnings.simplefilter("ignore", ConvergenceWarning)
        share = torch.as_tensor(mixture.fit(reduced).predict_proba(reduced)).to(profiles)
    share = share / share.sum(0).clamp_min(1e-9)  # (M, K)
    return share.T @ profiles - profiles.mean(0)
