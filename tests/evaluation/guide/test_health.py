"""Importance weights of guides whose quality is known: exact, too narrow, wrong for one cell."""

import math
import warnings

import numpy as np
import pytest
import torch

from pgm_expr.evaluation.guide.health import (
    Weights,
    guide_health,
    log_weights,
    pareto_k,
    quantiles,
    refined_weights,
    weights,
)
from pgm_expr.guides import LabelGuide
from pgm_expr.models import Label


def psis(log_w):
    """ArviZ's own k of each cell, one call a cell."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import arviz

        rows = log_w.T.numpy()
        if hasattr(arviz, "psislw"):
            return np.array([float(arviz.psislw(row.copy())[1]) for row in rows])
        from arviz_stats.base import array_stats

        return np.array([float(array_stats.psislw(-row)[1]) for row in rows])


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
    assert not found.untrusted.any()
    assert (found.pareto_k[found.pareto_k.isfinite()] < 0.5).all()


@pytest.mark.parametrize("draws", [100, 300_000], ids=["one chunk", "several"])
def test_a_site_that_cells_share_is_one_draw_for_all(shared, stories, draws):
    """Given it, q(z | x, mu) is exact: weights of a cell are all log p(x | mu), in any chunks."""
    guide = stories.SharedMeanGuide(shared.model, shared.x)
    halves = [{k: v[at] for k, v in shared.batch.items()} for at in (slice(4), slice(4, 10))]
    found = weights(shared.model, guide, halves, draws=100)
    assert found.gap.abs().max() < 1e-8
    whole = weights(shared.model, guide, [shared.batch], draws=draws)
    assert torch.allclose(found.elbo, whole.elbo)


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


def test_infinite_k_is_trusted_only_where_all_weights_are_alike():
    one_weighs_all = torch.full((200, 1), -900.0).double()
    one_weighs_all[0] = 0.0
    log_w = torch.cat([torch.zeros(200, 1).double(), one_weighs_all], 1)
    efficiency = torch.tensor([1.0, 1 / 200])
    found = Weights(pareto_k(log_w), efficiency, *5 * [torch.zeros(2)])
    assert found.pareto_k.tolist() == [math.inf, math.inf]
    assert found.untrusted.tolist() == [False, True]


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
    """Its posterior lies a unit off in each dimension; the others are the best there are."""
    torch.manual_seed(5)
    library = torch.ones(300, 1)
    x = ppca.model(library=library).detach()

    class Off(torch.nn.Module):
        def forward(self, library, x=None):
            import pyro
            from pyro import distributions as dist

            loc = ppca.guide.loc(x) + (torch.arange(len(x)) == 137)[:, None]
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


@pytest.mark.parametrize("looked", [weights, refined_weights])
def test_too_few_draws_are_refused(ppca, looked):
    with pytest.raises(ValueError, match="at least 100, to fit a tail: got 50"):
        looked(ppca.model, ppca.guide, [ppca.batch], draws=50)


def test_quantiles_are_named_and_leave_out_what_is_not_finite():
    found = quantiles(torch.tensor([math.inf, 0.0, 1.0, 2.0, 3.0, 4.0]))
    assert found == pytest.approx({"q05": 0.2, "q25": 1.0, "q50": 2.0, "q75": 3.0, "q95": 3.8})
    assert math.isnan(quantiles(torch.tensor([math.inf]))["q50"])


class TestWhole:
    """`guide_health`: all figures of one guide beside each other."""

    def cut(self, batch, *sizes):
        """A sweep of the batch in parts."""
        split = {name: value.split(sizes) for name, value in batch.items()}
        parts = [dict(zip(split, rows, strict=True)) for rows in zip(*split.values(), strict=True)]
        return lambda: iter(parts)

    def test_figures_of_a_spoilt_guide(self, narrow):
        """Half the scale loses D (log 2 - 3/8) nats of the best diagonal bound, in each cell."""
        sweep = self.cut(narrow.batch, 17, 20, 3)
        found = guide_health(narrow.model, narrow.guide, sweep, draws=2000, refined=9, pairs=30)
        assert found.chosen.tolist() == [0, 4, 9, 14, 19, 24, 29, 34, 39]
        loss = 3 * (math.log(2) - 3 / 8)
        assert (found.amortisation_gap - loss).abs().max() < 0.15
        precision = narrow.model.precision().detach()
        best = (
            narrow.model.evidence(narrow.x)
            - (precision.diagonal().log().sum() - precision.logdet()) / 2
        )
        assert (found.refined.elbo - best[found.chosen]).abs().max() < 0.1  # of the same cells
        assert found.refined.pareto_k.median() < found.weights.pareto_k.median() - 0.2
        assert found.use.loc.shape == (40, 3) and found.surgery["z"].cells == 30
        assert found.worst(5).tolist() == found.weights.gap.topk(5).indices.tolist()

    def test_summary_names_its_figures(self, narrow):
        sweep = self.cut(narrow.batch, 40)
        found = guide_health(narrow.model, narrow.guide, sweep, draws=200, refined=5)
        figures = found.summary()
        assert figures["cells"] == 40 and figures["active_units"] == 3
        assert figures["elbo"] == pytest.approx(found.weights.elbo.mean().item())
        assert figures["gap"] == pytest.approx(figures["iwae"] - figures["elbo"])
        assert figures["kl"] == pytest.approx(figures["z_kl"], abs=0.5)  # closed form, by draws
        assert figures["z_kl"] == pytest.approx(figures["z_information"] + figures["z_aggregate"])
        gained = figures["refined_elbo"] - figures["amortised_elbo"]
        assert figures["amortisation_gap"] == pytest.approx(gained)
        assert {"pareto_k_q50", "efficiency_q05", "untrusted", "amortisation_gap_se"} < set(
            figures
        )
        assert all(isinstance(value, float | int) for value in figures.values())

    def test_a_collapsed_guide_is_told(self, ppca):
        ppca.guide.loc.weight.data.zero_()
        sweep = self.cut(ppca.batch, 40)
        found = guide_health(ppca.model, ppca.guide, sweep, draws=100, refined=0)
        assert found.summary()["active_units"] == 0
        assert found.summary()["z_information"] == pytest.approx(0, abs=1e-9)
        assert found.refined is None and found.amortisation_gap is None

    def test_a_discrete_latent_is_not_refined(self):
        torch.manual_seed(0)
        model, guide = Label(12, 3, hidden=8), LabelGuide(12, 3, latent=15, hidden=8)
        x = torch.poisson(torch.full((20, 12), 3.0))
        batch = {"x": x, "library": x.sum(-1, keepdim=True), "label": torch.full((20,), -1)}
        found = guide_health(model, guide, self.cut(batch, 12, 8), draws=100)
        assert found.refined is None and found.summary()["cells"] == 20
        assert [*found.surgery] == ["z"]
        assert found.weights.gap.isfinite().all()
