"""Slow: planted loadings, found again from values and from counts."""

from dataclasses import replace

import numpy as np
import pytest
from anndata import AnnData
from scipy.linalg import orthogonal_procrustes, subspace_angles
from scipy.stats import multivariate_normal

import pgm_expr
from pgm_expr.evaluation import cca
from pgm_expr.simulate import simulate

pytestmark = pytest.mark.slow

OWN = 12  # genes of each planted factor
SIZES = (1.0, 0.9, 0.8)  # of the effects of the three factors


def test_the_subspace_of_probabilistic_pca_is_found():
    """A linear-Gaussian truth: within .15 of the planted span, .1 of the closed form's, and the
    evidence of the parameters found within .2 nats a cell of its maximum."""
    rng = np.random.default_rng(0)
    planted = rng.normal(0, 0.6, (3, 30))  # (D, G)
    x = 6 + rng.normal(size=(1000, 3)) @ planted + rng.normal(0, 0.5, (1000, 30))
    run = pgm_expr.fit(
        AnnData(x.clip(0).astype(np.float32)),
        "linear",
        likelihood="gaussian",
        isotropic=True,
        latent=3,
        hidden=64,
        encoder_dropout=0.0,
        weight_decay=0.0,
        epochs=150,
        progress=False,
    )
    train = x[run.table.split.train]
    values, vectors = np.linalg.eigh(np.cov(train.T, bias=True))
    found, noise = run.model.loadings.numpy().T, values[:-3].mean()  # (G, D)
    logs = np.log(values[-3:]).sum() + 27 * np.log(noise)
    maximum = -(30 * np.log(2 * np.pi) + logs + 30) / 2  # Tipping and Bishop's
    mean = (run.model.likelihood.offset + run.model.decode.bias).detach().numpy()
    sigma = run.model.likelihood.log_scale.exp().item()
    evidence = multivariate_normal(mean, found @ found.T + sigma**2 * np.eye(30)).logpdf(train)
    assert maximum - 0.2 < evidence.mean() < maximum
    assert subspace_angles(found, planted.T).max() < 0.15
    assert subspace_angles(found, vectors[:, -3:]).max() < 0.1
    assert sigma == pytest.approx(0.5, rel=0.05)


@pytest.fixture(scope="module")
def sparse():
    """Three factors with genes of their own."""
    truth = simulate(1500, 100, seed=0, latent=3, types=1, median_library=3000.0)
    signs = np.random.default_rng(1).choice([-1.0, 1.0], (3, OWN))
    loadings = np.zeros((3, 100))
    for d, size in enumerate(SIZES):
        loadings[d, d * OWN : (d + 1) * OWN] = size * signs[d]
    truth = replace(truth, loadings=loadings)
    truth = replace(truth, x=truth.draw(2))
    adata = truth.to_anndata()
    run = pgm_expr.fit(adata, "linear", latent=3, hidden=64, epochs=100, progress=False)
    return truth, run, run.embed(adata)


def test_the_subspace_of_counts_is_found(sparse):
    """What a row adds to all genes alike is left out: a softmax does not see it."""
    truth, run, latent = sparse
    found, planted = (
        w - w.mean(1, keepdims=True) for w in (run.model.loadings.numpy(), truth.loadings)
    )
    assert subspace_angles(found.T, planted.T).max() < 0.25
    assert cca(latent, truth.z) > 0.9


def test_the_largest_loadings_are_the_planted_genes(sparse):
    """10 of the 12 first genes of each factor, once turned to the planted axes: a prior N(0, I)
    leaves the rotation free."""
    truth, run, latent = sparse
    turn, _ = orthogonal_procrustes(latent, truth.z)
    turned = turn.T @ run.model.loadings.numpy()  # (D, G)
    for d in range(3):
        assert abs(np.corrcoef(latent @ turn[:, d], truth.z[:, d])[0, 1]) > 0.9
        first = np.argsort(-np.abs(turned[d]))[:OWN]
        assert len(set(first) & set(range(d * OWN, (d + 1) * OWN))) >= 10
