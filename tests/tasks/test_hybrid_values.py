"""The hybrid of log values: variances, correlations and calibration of what it draws."""

import numpy as np
import pytest
import torch
from sklearn.neural_network import MLPRegressor

from pgm_expr.tasks import GENERATORS
from pgm_expr.tasks.hybrid import fit_values


def planted(number, columns=3, genes=30, seed=0, truth=0):
    """c, values whose residuals lie on two factors, bimodal and with noise, and their variance."""
    rng, cells = np.random.default_rng(truth), np.random.default_rng(seed)
    weights, loadings = rng.normal(size=(columns, genes)), rng.normal(size=(2, genes))
    sd = rng.uniform(0.3, 1, genes)
    c = cells.normal(size=(number, columns))
    factors = cells.choice([-1.0, 1.0], (number, 2)) + 0.3 * cells.normal(size=(number, 2))
    left = factors @ loadings + sd * cells.normal(size=(number, genes))
    variance = 1.09 * (loadings**2).sum(0) + sd**2
    return torch.tensor(c).float(), torch.tensor(c @ weights + left).float(), variance


@pytest.mark.parametrize("name", [None, "flow"])
def test_draws_have_the_planted_variance_though_residuals_have_more(name):
    """At p / n = .2: out-of-fold residuals 1.28 of the truth, draws minus their mean 1."""
    c, values, variance = planted(400, columns=80)
    hybrid = fit_values(c, values, generator=name and GENERATORS[name], steps=60, components=2)
    drawn = hybrid.sample(c, 5, seed=1)
    torch.manual_seed(1)  # the predictor's own draws come first
    drawn = (drawn - hybrid.predictor.draw(c, 5)).flatten(0, 1).var(0).numpy() / variance
    assert drawn.mean() == pytest.approx(1, abs=0.07)
    raw = hybrid.predictor.residuals.var(0).numpy() / variance
    assert raw.mean() > 1.2


def test_draws_of_new_cells_are_calibrated():
    """Both variances together: PIT of new cells in the central 95%, at p / n = .2."""
    c, values, _ = planted(400, columns=80)
    new, unseen, _ = planted(600, columns=80, seed=1)
    hybrid = fit_values(c, values, generator=None)
    pit = (hybrid.sample(new, 200) < unseen).float().mean(0)
    inside = ((pit > 0.025) & (pit < 0.975)).float().mean().item()
    assert inside == pytest.approx(0.95, abs=0.02)
    assert torch.allclose(hybrid.sample(new, 200).mean(0), hybrid.predict(new), atol=0.8)


def test_a_generator_keeps_correlations_that_the_baseline_loses():
    c, values, _ = planted(1500)
    hybrid = fit_values(c, values, generator=GENERATORS["diffusion"], components=2, steps=150)
    new, unseen, _ = planted(1500, seed=1)
    real = np.corrcoef((unseen - hybrid.predict(new)).T.numpy())
    off = ~np.eye(30, dtype=bool)
    for each, least, most in (
        (hybrid, 0.95, 1.0),
        (fit_values(c, values, generator=None), -0.2, 0.3),
    ):
        drawn = np.corrcoef((each.sample(new, 1)[0] - each.predict(new)).T.numpy())
        assert least < np.corrcoef(real[off], drawn[off])[0, 1] <= most


def test_any_regressor_predicts_and_draws_are_seeded():
    c, values, _ = planted(200, genes=4)
    network = MLPRegressor(hidden_layer_sizes=(8,), solver="lbfgs", max_iter=1000, tol=1e-2)
    hybrid = fit_values(c, values, network, generator=None, folds=3)
    assert hybrid.predict(c).shape == (200, 4)
    assert torch.equal(hybrid.sample(c, 3, seed=4), hybrid.sample(c, 3, seed=4))
    assert hybrid.sample(c, 3).shape == (3, 200, 4)
    error = (values - hybrid.predict(c)).square().mean() / values.var(0).mean()
    assert error < 0.6
