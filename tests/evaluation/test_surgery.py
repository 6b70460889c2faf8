"""Where the KL goes, against a linear Gaussian story, whose mutual information is known."""

import math
from importlib import import_module

import pytest
import torch

from pgm_expr.evaluation.guide.surgery import surgery
from pgm_expr.guides import VAEGuide
from pgm_expr.models import VAE
from pgm_expr.parts import FlowPosterior, LowRankNormal


def test_the_parts_sum_to_the_kl(ppca, stories):
    found = surgery(ppca.model, stories.ExactGuide(ppca.model), [ppca.batch], draws=20)["z"]
    assert found.kl == pytest.approx(found.information + found.aggregate, abs=1e-9)
    assert 0 < found.information <= math.log(40) + 1e-9
    assert found.cells == 40


def test_information_of_a_linear_gaussian_story(ppca, stories):
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
    assert not found.saturated


def test_a_guide_that_ignores_cells_tells_nothing(ppca):
    ppca.guide.loc.weight.data.zero_()
    ppca.guide.log_scale.data.fill_(math.log(0.5))
    found = surgery(ppca.model, ppca.guide, [ppca.batch], draws=10)["z"]
    assert abs(found.information) < 1e-9
    assert found.aggregate == pytest.approx(found.kl)


def test_too_few_cells_are_said_to_be_so(ppca, stories):
    """Ten cells can tell no more than log 10 nats."""
    few = {name: value[:10] for name, value in ppca.batch.items()}
    found = surgery(ppca.model, stories.ExactGuide(ppca.model), [few])["z"]
    assert found.saturated and found.information <= math.log(10) + 1e-9


@pytest.mark.parametrize("posterior", [LowRankNormal, FlowPosterior])
def test_any_posterior_will_do_in_any_chunks(posterior, monkeypatch):
    torch.manual_seed(0)
    model, guide = VAE(12, latent=2, hidden=8), VAEGuide(12, latent=2, hidden=8)
    guide.posterior = posterior(8, 2)
    x = torch.poisson(torch.full((30, 12), 3.0))
    batches = [{"x": part, "library": part.sum(-1, keepdim=True)} for part in x.split(20)]
    found = surgery(model, guide, batches, draws=2)["z"]
    assert found.kl == pytest.approx(found.information + found.aggregate, abs=1e-5)
    assert 0 <= found.information <= math.log(30)
    monkeypatch.setattr(import_module("pgm_expr.evaluation.guide.surgery"), "PAIRS", 50)
    assert surgery(model, guide, batches, draws=2)["z"] == pytest.approx(found, abs=1e-4)


def test_no_cells_are_refused(ppca):
    with pytest.raises(ValueError, match="got none. Pass a minibatch"):
        surgery(ppca.model, ppca.guide, [])
