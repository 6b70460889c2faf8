"""Variances of cross-fitted residuals, against planted ones."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neural_network import MLPRegressor

from pgm_expr.tasks.predictors import cross_fit


def planted(cells, columns, genes=200, seed=0):
    """c, values, the true weights and the variances that c leaves."""
    rng = np.random.default_rng(seed)
    c = rng.normal(size=(cells, columns))
    weights = rng.normal(size=(columns, genes)) / columns**0.5
    variance = np.exp(rng.normal(0, 0.5, genes))
    values = c @ weights + rng.normal(size=(cells, genes)) * variance**0.5
    return torch.tensor(c), torch.tensor(values), weights, variance


@pytest.mark.parametrize("columns", [4, 80])
def test_the_residual_variance_is_the_planted_one(columns):
    """Within .05 also at p / n = .2, where residuals in-sample have .8, out of fold 1.28."""
    c, values, _, variance = planted(400, columns)
    found = cross_fit(c, values)
    assert (found.aleatoric.numpy() / variance).mean() == pytest.approx(1, abs=0.05)
    inside = values - torch.tensor(Ridge().fit(c, values).predict(c))
    assert (inside.square().mean(0).numpy() / variance).mean() == pytest.approx(
        1 - columns / 400, abs=0.03
    )
    outside = (found.residuals.square().mean(0).numpy() / variance).mean()
    assert outside == pytest.approx(1 / (1 - columns / 360), abs=0.04)


def test_every_gene_has_its_own_given_enough_cells():
    """Each of 50 within a twentieth from 30,000; its standard error is below .01."""
    c, values, _, variance = planted(30_000, 60, genes=50)
    found = cross_fit(c, values, LinearRegression(), folds=3).aleatoric.numpy() / variance
    assert np.all(np.abs(found - 1) < 0.05)


@pytest.mark.parametrize("columns", [4, 80])
def test_the_predictors_own_variance_is_found(columns):
    """Within a third of the truth, of predictions of new cells, in the mean over seeds."""
    ratios = []
    for seed in range(4):
        c, values, weights, _ = planted(400, columns, seed=seed)
        found = cross_fit(c, values)
        new = torch.tensor(np.random.default_rng(seed + 100).normal(size=(200, columns)))
        errors = [((f.predict(new) - new.numpy() @ weights) ** 2).mean() for f in found.regressors]
        ratios.append(found.epistemic(new).mean().item() / np.mean(errors))
        drawn = found.draw(new, 400).var(0).mean() / found.epistemic(new).mean()
        assert drawn.item() == pytest.approx(1, abs=0.1)
    assert np.mean(ratios) == pytest.approx(1, abs=1 / 3)


def test_no_variance_is_negative_where_there_is_none():
    c, values, *_ = planted(100, 3, genes=5)
    found = cross_fit(c, torch.zeros_like(values))
    assert found.aleatoric.eq(0).all() and found.epistemic(c).eq(0).all()
    pure = cross_fit(c, torch.randn(100, 5, generator=torch.Generator().manual_seed(0)).double())
    assert (pure.aleatoric > 0).all() and (pure.epistemic(c) >= 0).all()


def test_an_mlp_of_one_gene_is_seeded():
    c, values, *_ = planted(60, 2, genes=1)
    network = MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", max_iter=50, tol=1e-1)
    first, second = (cross_fit(c, values, network, folds=3, seed=5) for _ in range(2))
    assert torch.equal(first.residuals, second.residuals)
    assert first.predict(c).shape == (60, 1)


def test_what_donors_share_is_unexplained_where_whole_donors_are_left_out():
    """Donor effects of variance 1, and c of each donor: leaving out cells hides them."""
    rng = np.random.default_rng(0)
    donor = np.repeat(np.arange(60), 20)
    c = np.repeat(rng.normal(size=(60, 30)), 20, 0)
    values = rng.normal(size=(60, 40))[donor] + rng.normal(size=(1200, 40))
    c, values = torch.tensor(c), torch.tensor(values)
    apart = cross_fit(c, values, Ridge(10.0), groups=donor).aleatoric.mean().item()
    mixed = cross_fit(c, values, Ridge(10.0)).aleatoric.mean().item()
    assert apart > 1.75 > mixed


def test_folds_need_groups():
    c, values, *_ = planted(30, 2, genes=2)
    with pytest.raises(ValueError, match="got 10 folds of 3 groups. Take 2 <= folds <= 1"):
        cross_fit(c, values, groups=np.arange(30) % 3)
    with pytest.raises(ValueError, match="got 1 folds"):
        cross_fit(c, values, folds=1)
