"""ArviZ's LOO-PIT of counts and cells that were left out: uniform where the story is right."""

import warnings

import matplotlib
import numpy as np
import pytest
import torch
from pyro.distributions import NegativeBinomial, Normal, Poisson
from scipy import stats

from pgm_expr.evaluation.arviz import loo_pit_arguments
from pgm_expr.evaluation.counts import pit
from pgm_expr.evaluation.counts.loo_pit import left_out, left_out_of_shared

matplotlib.use("Agg")
CELLS, GENES = 100, 20
MEANS = torch.logspace(-2, 1, GENES)


@pytest.fixture(scope="module")
def az():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import arviz
    return arviz


def loo_pit(az, y, y_hat, log_weights):
    """What ArviZ 0.x makes of the arrays, or what ArviZ 1.x is given to plot."""
    given = loo_pit_arguments(y, y_hat, log_weights)
    return np.asarray(given["dt"]["loo_pit"]["x"] if "dt" in given else az.loo_pit(**given))


@pytest.fixture
def pairs():
    """Counts with variance m + m^2, in two minibatches; predictions below need nothing seen."""
    torch.manual_seed(0)
    x = nb({}, {"x": torch.empty(CELLS, GENES)}).sample()
    return [({}, {"x": part}) for part in x.split(60)]


def nb(seen, asked):
    shape = asked["x"].shape
    return NegativeBinomial(torch.ones(shape), logits=MEANS.log().expand(shape)).to_event(1)


def poisson(seen, asked):
    return Poisson(MEANS.expand(asked["x"].shape)).to_event(1)


def uneven(values):
    """p of uniform values, by Kolmogorov and Smirnov."""
    return stats.kstest(np.ravel(values), "uniform").pvalue


@pytest.mark.parametrize("draws", [9, 100])
def test_a_right_story_is_uniform_whatever_the_draws(az, pairs, draws):
    assert uneven(loo_pit(az, **left_out(nb, pairs, draws=draws))) > 0.01


def test_a_wrong_one_is_not_and_has_the_tails_of_the_randomised_pit(az, pairs):
    found = loo_pit(az, **left_out(poisson, pairs))
    other = pit.shares(pit.predictions(poisson, pairs).pit.numpy())
    assert uneven(found) < 1e-6
    assert pit.shares(found) == pytest.approx(other, abs=0.01)


@pytest.mark.parametrize("kind", [float, int])
def test_counts_as_they_are_fail_under_a_right_story(az, pairs, kind):
    """Why U(0, 1) is added: ties count as below, and ArviZ 0.x has a spline for whole numbers."""
    given = left_out(nb, pairs)
    y, y_hat = np.floor(given["y"]), np.floor(given["y_hat"][..., :-1])
    equal = np.full(y_hat.shape, -np.log(y_hat.shape[-1]))
    assert uneven(loo_pit(az, y.astype(kind), y_hat.astype(kind), equal)) < 1e-6


def test_arviz_plots_it(az, pairs):
    given = left_out(nb, pairs, draws=10, only=[3, 19])
    assert given["y"].shape == (CELLS, 2) and given["y_hat"].shape == (CELLS, 2, 11)
    arguments = loo_pit_arguments(**given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if "dt" in arguments:
            assert az.plot_ecdf_pit(**arguments).viz.children
        else:
            assert az.plot_loo_pit(**arguments, n_unif=5).lines
            assert az.plot_loo_pit(**arguments, ecdf=True).lines
    matplotlib.pyplot.close("all")


def test_values_that_are_no_counts_are_left_as_they_are(pairs):
    values = [(seen, {"x": asked["x"] + 0.5}) for seen, asked in pairs]
    given = left_out(lambda seen, asked: Normal(asked["x"], 1.0).to_event(1), values, draws=2)
    assert np.array_equal(given["y"], torch.cat([asked["x"] for _, asked in values]).numpy())


def test_too_much_is_refused_with_its_size(pairs):
    with pytest.raises(ValueError, match="100 cells x 20 genes x 1000000 draws take 8.0 GB"):
        left_out(nb, pairs, draws=1_000_000)


class TestShared:
    @pytest.fixture
    def story(self, stories, float64):
        torch.manual_seed(0)
        model = stories.SharedMean(genes=2, latent=1, sigma=0.4)
        batch = {"library": torch.ones(10, 1)}
        batch["x"] = model(**batch).detach()
        return model, stories.SharedMeanGuide(model, batch["x"]), batch

    def test_is_that_of_the_posterior_without_the_cell(self, az, story):
        """Which is Gaussian; the posterior of all cells, unweighed, lies nearer to each."""
        model, guide, batch = story
        given = left_out_of_shared(model, guide, [batch], draws=1000, k=1)
        found = loo_pit(az, **given)
        unweighed = (given["y_hat"][..., :-1] <= given["y"][..., None]).mean(-1)
        expected = np.stack([self.exact(model, batch["x"], n) for n in range(10)])
        error = np.abs(found - expected)
        assert error.max() < 0.06 and error.mean() < 0.9 * np.abs(unweighed - expected).mean()

    def exact(self, model, x, n):
        posterior = model.shared_posterior(torch.cat([x[:n], x[n + 1 :]]))
        scale = (posterior.covariance_matrix + model.covariance()).diagonal().sqrt()
        return stats.norm.cdf(x[n], posterior.mean.detach(), scale.detach())

    def test_states_of_cells_are_refused_with_the_reason(self, ppca):
        with pytest.raises(ValueError, match="no site that all cells share"):
            left_out_of_shared(ppca.model, ppca.guide, [ppca.batch])
