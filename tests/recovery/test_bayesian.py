"""The Bayesian variant: dispersions found again, and less surely where less was seen."""

import numpy as np
import pytest
from scipy.stats import spearmanr

import pgm_expr
from pgm_expr import simulate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fitted():
    truth = simulate.simulate(2000, 80, seed=0, types=3, median_library=1200.0)
    run = pgm_expr.fit(truth.to_anndata(), "bayesian_vae", hidden=64, epochs=120, progress=False)
    site = run.guide.shared
    loc = site.locs.log_dispersion_unconstrained.detach().numpy()
    scale = site.scales.log_dispersion_unconstrained.detach().numpy()
    return truth, loc, scale


def test_dispersions_are_found_again(fitted):
    """r >= .9; all lie a little low, by the variance that the latent state leaves unexplained."""
    truth, loc, _ = fitted
    assert np.corrcoef(loc, truth.log_dispersion)[0, 1] >= 0.9
    assert -0.6 < (loc - truth.log_dispersion).mean() < 0


def test_a_gene_with_fewer_counts_has_a_wider_posterior(fitted):
    truth, _, scale = fitted
    mean = truth.x.mean(0)
    assert spearmanr(scale, mean).statistic < -0.7
    assert scale[mean.argmin()] > 2 * scale[mean.argmax()]
