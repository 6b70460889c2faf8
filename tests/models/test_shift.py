"""The shift story's algebra: effects add up in the state, under a Laplace prior."""

import numpy as np
import pytest
import torch
from pyro import poutine
from scipy import stats

from pgm_expr.guides import ShiftGuide
from pgm_expr.inference import IWAE
from pgm_expr.models import Shift

CELLS, GENES, PERTURBATIONS, LATENT = 6, 8, 3, 2
SIZES = dict(genes=GENES, perturbations=PERTURBATIONS, latent=LATENT, hidden=4)


@pytest.fixture
def batch():
    noise = torch.Generator().manual_seed(0)
    x = torch.poisson(torch.full((CELLS, GENES), 5.0), noise) + 1
    perturbation = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 1, 1]])
    return {"x": x, "library": x.sum(-1, keepdim=True), "perturbation": perturbation.float()}


def test_effects_add_up_in_the_state(batch):
    """What is decoded, against z + d e in numpy."""
    torch.manual_seed(0)
    model, seen = Shift(**SIZES).eval(), []
    model.decode.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    effects, z = torch.randn(PERTURBATIONS, LATENT), torch.randn(CELLS, LATENT)
    with poutine.condition(data={"effects": effects, "z": z}):
        model(**batch)
    expected = z.numpy() + batch["perturbation"].numpy() @ effects.numpy()
    assert np.allclose(seen[0].numpy(), expected, atol=1e-6)


def test_the_prior_of_effects_is_laplace(batch):
    model = Shift(**SIZES, effect_scale=0.2)
    effects = torch.randn(PERTURBATIONS, LATENT)
    with poutine.trace() as recorded, poutine.condition(data={"effects": effects}):
        model(**batch)
    log_prob = recorded.trace.nodes["effects"]["fn"].log_prob(effects).item()
    assert log_prob == pytest.approx(stats.laplace(scale=0.2).logpdf(effects).sum(), rel=1e-5)


def test_all_particles_share_the_effects(batch):
    """One draw a step for all cells and particles, whose states are their own."""
    torch.manual_seed(0)
    pair = Shift(**SIZES).eval(), ShiftGuide(**SIZES).eval()
    guided, modelled = IWAE(*pair, cells=CELLS, particles=5).traces(batch)
    assert modelled.nodes["effects"]["value"].shape == (PERTURBATIONS, LATENT)
    assert modelled.nodes["effects"]["value"] is guided.nodes["effects"]["value"]
    assert modelled.nodes["z"]["value"].shape == (5, CELLS, LATENT)


def test_the_guide_is_told_how_far_a_cell_was_moved(batch):
    """Two perturbations of equal effect are one to it; without any, none moves its answer."""
    torch.manual_seed(0)
    guide = ShiftGuide(**SIZES).eval()
    guide.loc.data.copy_(torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]]))

    def means(perturbation):
        told = batch | {"perturbation": perturbation.expand(CELLS, -1)}
        return poutine.trace(guide).get_trace(**told).nodes["z"]["fn"].mean

    none, first, second, third = (means(d) for d in torch.eye(4, 3).roll(1, 0))
    assert torch.allclose(first, second) and torch.allclose(none, third)
    assert not torch.allclose(none, first)
