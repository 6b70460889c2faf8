"""Baselines against scipy's negative binomial and planted truth."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import nbinom

from pgm_expr.evaluation import fit_baseline

THETA = np.array([0.2, 0.5, 1.0, 2.0, 5.0, 10.0])
SHARES = np.array(
    [[0.3, 0.2, 0.2, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.2, 0.2, 0.3]]
)  # of labels 0 and 1
GENES = len(THETA)


def log_p(x, share, theta):
    """scipy's log p of each count; library is the sum of the counts."""
    mean = x.sum(1, keepdims=True) * share
    return nbinom.logpmf(x, theta, theta / (theta + mean))


@pytest.fixture
def planted(float64):
    """4,000 cells of two labels; means are shares of the expected library."""
    rng = np.random.default_rng(0)
    label = rng.integers(2, size=4000)
    mean = rng.lognormal(np.log(200), 0.3, 4000)[:, None] * SHARES[label]
    x = rng.poisson(mean * rng.gamma(THETA, 1 / THETA, mean.shape))
    x[:, 0] += x.sum(1) == 0
    return SimpleNamespace(x=x, counts=torch.tensor(x, dtype=torch.float64), y=torch.tensor(label))


def test_shares_are_shrunk_sums(planted):
    """One cell's worth of the pooled shares joins each label's counts."""
    fitted = fit_baseline(planted.counts, planted.y, 2)
    x, shares = planted.x, fitted.log_share.exp().numpy()
    assert shares.shape == (3, GENES) and np.allclose(shares.sum(1), 1)
    pooled = (x.sum(0) + 0.5) / (x.sum() + 0.5 * GENES)
    assert np.allclose(shares[-1], pooled, rtol=1e-12)
    median = np.sort(x.sum(1))[(len(x) - 1) // 2]
    for k in (0, 1):
        own = x[planted.y == k].sum(0) + pooled * median
        assert np.allclose(shares[k], own / own.sum(), rtol=1e-12)


# A cell's fraction of a gene varies by sampling and overdispersion: 4 standard errors, 12 shares.
def test_finds_planted_shares(planted):
    shares = fit_baseline(planted.counts, planted.y, 2).log_share.exp().numpy()
    for k in (0, 1):
        x = planted.x[planted.y.numpy() == k]
        residual = x - x.sum(1, keepdims=True) * SHARES[k]
        error = residual.std(0) * len(x) ** 0.5 / x.sum()
        assert (np.abs(shares[k] - SHARES[k]) < 4 * error + 1e-4).all()


# The Fisher information is that of scipy's likelihood; 4 standard errors of 6 genes.
def test_finds_planted_dispersions(float64):
    """Many genes, so that the library, a sum of the counts, is as good as given."""
    rng = np.random.default_rng(1)
    theta = np.tile(THETA, 40)
    mean = np.full((1500, len(theta)), 5.0)
    x = rng.poisson(mean * rng.gamma(theta, 1 / theta, mean.shape))
    fitted = fit_baseline(torch.tensor(x, dtype=torch.float64))
    share, step = fitted.log_share[-1].exp().numpy(), 1e-2
    low, at, high = (log_p(x, share, theta * np.exp(d)).sum(0) for d in (-step, 0, step))
    error = (step**2 / (2 * at - low - high)) ** 0.5
    z = (fitted.log_dispersion.numpy() - np.log(theta)) / error
    assert np.abs(z).max() < 4.5 and 0.85 < z.std() < 1.15


@pytest.mark.parametrize("labels", [0, 2])
def test_log_prob_is_scipys(planted, labels):
    y = planted.y if labels else None
    fitted = fit_baseline(planted.counts, y, labels)
    share, theta = fitted.log_share.exp().numpy(), fitted.log_dispersion.exp().numpy()
    rows = share[planted.y.numpy()] if labels else share[-1]
    exact = log_p(planted.x, rows, theta).sum(1)
    assert np.allclose(fitted.log_prob(planted.counts, y).numpy(), exact, rtol=1e-9)


@pytest.mark.parametrize("labels", [0, 2])
def test_no_other_dispersion_does_better(planted, labels):
    y = planted.y if labels else None
    fitted = fit_baseline(planted.counts, y, labels)
    share, theta = fitted.log_share.exp().numpy(), fitted.log_dispersion.exp().numpy()
    rows = share[planted.y.numpy()] if labels else share[-1]
    best = log_p(planted.x, rows, theta).sum(0)
    for step in (-0.5, -0.01, 0.01, 0.5):
        assert (log_p(planted.x, rows, theta * np.exp(step)).sum(0) < best).all()


def test_cells_without_a_label_use_the_pooled_shares(planted):
    half = torch.where(torch.arange(4000) % 2 == 0, planted.y, -1)
    fitted = fit_baseline(planted.counts, half, 2)
    pooled, mixed = fitted.log_prob(planted.counts), fitted.log_prob(planted.counts, half)
    assert torch.equal(mixed[half == -1], pooled[half == -1])
    assert (mixed[half >= 0] != pooled[half >= 0]).all()


def test_a_label_without_cells_has_the_pooled_shares(planted):
    fitted = fit_baseline(planted.counts, planted.y, 3)
    assert torch.allclose(fitted.log_share[2], fitted.log_share[-1], rtol=1e-10)
    assert fitted.log_prob(planted.counts, torch.full((4000,), 2)).isfinite().all()


def test_knowing_the_label_helps(planted):
    train, test = planted.counts[:3000], planted.counts[3000:]
    known = fit_baseline(train, planted.y[:3000], 2).log_prob(test, planted.y[3000:])
    gap = known - fit_baseline(train).log_prob(test)
    assert gap.mean() > 4 * gap.std() / 1000**0.5


def test_unseen_and_even_genes_stay_finite():
    """A gene without counts, one without variance, one that only a test cell has."""
    x = torch.poisson(torch.full((50, 4), 5.0), torch.Generator().manual_seed(0)) + 1
    x[:, 1], x[:, 2] = 0, 3
    held_out = x[:5].clone()
    held_out[:, 1] = 2
    fitted = fit_baseline(x, torch.zeros(50, dtype=torch.int64), 1)
    assert fitted.log_share.isfinite().all() and fitted.log_dispersion.isfinite().all()
    assert fitted.log_prob(held_out, torch.zeros(5, dtype=torch.int64)).isfinite().all()
