"""Where decoders start, from cells of the data."""

from __future__ import annotations

import warnings

import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

COMPONENTS = 10  # principal components that regimes are first looked for in
STARTS = 10  # of that search; the best is kept


def centres(examples: Tensor, regimes: int) -> Tensor:
    """About the log fold change of each regime's mean against the mean of all, (K, G).

    Regimes are the components of a mixture of Gaussians over the cells `examples` (M, G), in
    principal components of their log-normalised counts.
    """
    totals = examples.sum(-1, keepdim=True)
    profiles = (examples * totals.mean() / totals).log1p()  # (M, G)
    size = min(COMPONENTS, *(side - 1 for side in profiles.shape))
    seed = int(torch.randint(2**31, ()))
    reduced = PCA(size, random_state=seed).fit_transform(profiles.numpy())
    mixture = GaussianMixture(
        regimes, n_init=STARTS, max_iter=500, reg_covar=1e-3, random_state=seed
    )
    with warnings.catch_warnings():  # of fewer distinct cells than regimes: some start alike
        warnings.simplefilter("ignore", ConvergenceWarning)
        share = torch.as_tensor(mixture.fit(reduced).predict_proba(reduced)).to(profiles)
    share = share / share.sum(0).clamp_min(1e-9)  # (M, K)
    return share.T @ profiles - profiles.mean(0)
