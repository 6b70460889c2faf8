"""Importance weights of guides whose quality is known: exact, too narrow, wrong for one cell."""

import math
import warnings

import numpy as np
import pytest
import torch

from pgm_expr.evaluation.guide_health import (
    log_weights,
    pareto_k,
    quantiles,
    refined_weights,
    surgery,
    weights,
)


def psis(log_w):
    """ArviZ's own k of each cell, one call a cell."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import arviz

        return np.array([float(arviz.psislw(row.copy())[1]) for row in log_w.T.numpy()])


@pytest.fixture
def narrow(ppca):
    """The best diagonal guide with half its scale."""
    ppca.guide.match(ppca.model, 0.5)
    return ppca


def test_the_exact_posterior_leaves_nothing(ppca, stories):
    guide = stories.ExactGuide(ppca.model)
    found = weights(ppca.model, guide, [ppca.batch], draws=200)
    assert found.gap.abs().max() < 1e-8
    assert torch.allclose(found.efficiency, torch.ones(40))
    assert torch.allclose(found.iwae, ppca.model.evidence(ppca.x))
    assert torch.allclose(found.iwae_quarter, found.iwae)


def test_k_of_a_cell_is_arvizs_on_the_same_weights(narrow):
    torch.manual_seed(3)
    with torch.no_grad():
        log_w = log_weights(narrow.model, narrow.guide, narrow.batch, 400)
    assert np.allclose(pareto_k(log_w), psis(log_w), atol=1e-10)


def test_k_of_a_single_cell_has_the_same_shape_as_of_many():
    log_w = torch.randn(300, 1).double()
    assert pareto_k(log_w).shape == (1,)


def test_k_of_weights_with_a_known_tail():
    """w = u^-k has a Pareto tail of shape k: to .1, in the mean over 100 cells."""
    torch.manual_seed(0)
    for k in (0.3, 0.9):
        log_w = -k * torch.rand(2000, 100).double().log()
        assert abs(pareto_k(log_w).mean() - k) < 0.1


def test_half_the_scale_shows(ppca):
    right = weights(ppca.model, ppca.guide, [ppca.batch], draws=1000)
    ppca.guide.match(ppca.model, 0.5)
    wrong = weights(ppca.model, ppca.guide, [ppca.batch], draws=1000)
    assert wrong.pareto_k.median() > right.pareto_k.median() + 0.3
    assert wrong.efficiency.median() < right.efficiency.median() / 2
    assert wrong.gap.mean() > right.gap.mean()


def test_refinement_mends_a_guide_that_is_off(narrow):
    before = weights(narrow.model, narrow.guide, [narrow.batch], draws=500)
    after = refined_weights(narrow.model, narrow.guide, [narrow.batch], draws=500, steps=150)
    assert after.pareto_k.median() < before.pareto_k.median() - 0.2
    assert (after.elbo - before.elbo).mean() > 0.2


def test_a_planted_bad_cell_is_the_worst_of_300(ppca):
    """Its posterior lies half a unit off in each dimension; the others are the best there are."""
    torch.manual_seed(5)
    library = torch.ones(300, 1)
    x = ppca.model(library=library).detach()

    class Off(torch.nn.Module):
        def forward(self, library, x=None):
            import pyro
            from pyro import distributions as dist

            loc = ppca.guide.loc(x) + 1.0 * (torch.arange(len(x)) == 137)[:, None]
            with pyro.plate("cells", len(library)):
                pyro.sample("z", dist.Normal(loc, ppca.guide.log_scale.exp()).to_event(1))

    found = weights(ppca.model, Off(), [{"library": library, "x": x}], draws=500)
    assert 137 in found.worst(3).tolist()


def test_batches_are_joined_in_order(ppca):
    halves = [{k: v[at] for k, v in ppca.batch.items()} for at in (slice(25), slice(25, 40))]
    found = weights(ppca.model, ppca.guide, halves, draws=2000)
    whole = weights(ppca.model, ppca.guide, [ppca.batch], draws=2000)
    assert found.elbo.shape == (40,)
    assert torch.corrcoef(torch.stack([found.iwae, whole.iwae]))[0, 1] > 0.99


def test_too_few_draws_are_refused(ppca):
    with pytest.raises(ValueError, match="at least 100, to fit a tail: got 50"):
        weights(ppca.model, ppca.guide, [ppca.batch], draws=50)


def test_quantiles_are_named_and_leave_out_what_is_not_finite():
    found = quantiles(torch.tensor([math.inf, 0.0, 1.0, 2.0, 3.0, 4.0]))
    assert found == pytest.approx({"q05": 0.2, "q25": 1.0, "q50": 2.0, "q75": 3.0, "q95": 3.8})
    assert math.isnan(quantiles(torch.tensor([math.inf]))["q50"])


class TestSurgery:
    def test_the_parts_sum_to_the_kl(self, ppca, stories):
        found = surgery(ppca.model, stories.ExactGuide(ppca.model), [ppca.batch], draws=20)["z"]
        assert found.kl == pytest.approx(found.information + found.aggregate, abs=1e-9)
        assert 0 < found.information <= math.log(40) + 1e-9

    def test_information_of_a_linear_gaussian_story(self, ppca, stories):
        """1/2 log |I + loadings' loadings / sigma^2| under the model itself; 2,000 cells."""
        torch.manual_seed(1)
        library = torch.ones(2000, 1)
        x = ppca.model(library=library).detach()
        guide = stories.ExactGuide(ppca.model)
        batches = [{"library": library[at], "x": x[at]} for at in torch.arange(2000).split(500)]
        found = surgery(ppca.model, guide, batches, draws=2)["z"]
        expected = ppca.model.precision().logdet().item() / 2
        assert found.information == pytest.approx(expected, abs=0.15)
        assert abs(found.aggregate) < 0.15

    def test_a_guide_that_ignores_cells_tells_nothing(self, ppca):
        ppca.guide.loc.weight.data.zero_()
        ppca.guide.log_scale.data.fill_(math.log(0.5))
        found = surgery(ppca.model, ppca.guide, [ppca.batch], draws=10)["z"]
        assert abs(found.information) < 1e-9
        assert found.aggregate == pytest.approx(found.kl)
