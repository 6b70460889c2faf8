"""Regimes are summed exactly, each by a decoder of its own that starts where cells are."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import nbinom

from pgm_expr.guides import MixtureOfVAEsGuide
from pgm_expr.inference import IWAE, Trace, call
from pgm_expr.inference.tracing import trace
from pgm_expr.models import MixtureOfVAEs
from pgm_expr.nn import Linears, MLPs

CELLS, GENES, REGIMES, LATENT = 9, 5, 3, 2
SMALL = dict(regimes=REGIMES, latent=LATENT, hidden=4)


@pytest.fixture
def pair(float64):
    torch.manual_seed(0)
    return MixtureOfVAEs(GENES, **SMALL).eval(), MixtureOfVAEsGuide(GENES, **SMALL).eval()


@pytest.fixture
def batch(float64):
    x = torch.poisson(torch.full((CELLS, GENES), 6.0), torch.Generator().manual_seed(1)) + 1
    return {"x": x, "library": x.sum(-1, keepdim=True)}


@pytest.mark.parametrize("shape", [(CELLS,), (4, CELLS), (REGIMES, 1, 1)])
def test_each_entry_takes_its_own_network(float64, shape):
    """Against plain linear algebra, for drawn and for enumerated levels."""
    torch.manual_seed(0)
    network, x = MLPs(REGIMES, LATENT, 4, GENES), torch.randn(4, CELLS, LATENT)
    y = torch.randint(REGIMES, shape)
    found, cells = network(x, y), torch.broadcast_shapes(shape, (4, CELLS))
    assert found.shape == (*cells, GENES)
    every = []
    for first, last in zip(network.hidden.maps, network.read_out.maps, strict=True):
        h = (x @ first.weight.T + first.bias).clamp(min=0)
        every.append(h @ last.weight.T + last.bias)
    for place in np.ndindex(*cells):
        level = y.expand(cells)[place]
        assert torch.allclose(found[place], every[level][place[-2:]])


def test_an_enumerated_level_costs_its_own_products_alone():
    """K maps of all cells: nothing of size K^2, nor a map for each cell."""
    maps, x, y = Linears(3, 50, 40), torch.randn(3, 1, 200, 50), torch.arange(3).view(3, 1, 1)
    with torch.profiler.profile(with_flops=True) as profile:
        maps(x, y)
    flops = sum(e.flops for e in profile.key_averages() if e.key in ("aten::bmm", "aten::mm"))
    assert flops == 2 * 3 * 200 * 50 * 40


def test_without_states_the_bound_is_the_evidence_of_a_mixture(pair, batch):
    """Decoders deaf to z and q(z) = p(z): log sum_y w_y NB(x | y) by scipy, whatever q(y)."""
    model, guide = pair
    with torch.no_grad():
        model.logits.copy_(torch.tensor([0.3, -0.5, 1.0]))
        model.likelihood.log_dispersion.normal_()
        for each in model.decode.hidden.maps:
            each.weight.zero_()
        for parameter in guide.posterior.parameters():
            parameter.zero_()
        guide.posterior.raw_scale.bias.fill_(math.log(math.expm1(1 - 1e-4)))
        eta = torch.stack([r(h.bias.relu()) for h, r in zip(*decoders(model), strict=True)])
    mean = batch["library"].numpy() * eta.softmax(-1)[:, None].numpy()  # (K, N, G)
    theta = model.likelihood.log_dispersion.exp().detach().numpy()
    log_p = nbinom.logpmf(batch["x"].numpy(), theta, theta / (theta + mean)).sum(-1)  # (K, N)
    weights = model.logits.log_softmax(0).detach().numpy()
    exact = torch.tensor(logsumexp(weights[:, None] + log_p, axis=0))
    for particles in (1, 4):
        bound = IWAE(model, guide, cells=CELLS, particles=particles).per_cell(**batch)
        assert torch.allclose(bound, exact, atol=1e-6)
    assert (Trace(model, guide, cells=CELLS).per_cell(**batch) < exact).all()


def decoders(model):
    return model.decode.hidden.maps, model.decode.read_out.maps


def test_classify_gives_the_logits_of_the_guide(pair, batch):
    _, guide = pair
    probabilities = trace(guide, batch).nodes["regime"]["fn"].probs
    assert torch.allclose(guide.classify(batch["x"]).softmax(-1), probabilities)


def test_a_state_is_of_its_regime(pair, batch):
    """Under enumeration a cell has K posteriors, and decoders one output for each."""
    model, guide = pair
    guided = trace(guide, batch, enumerate=True)
    assert guided.nodes["z"]["fn"].mean.shape == (REGIMES, 1, CELLS, LATENT)
    assert trace(model, batch, at=guided).nodes["x"]["fn"].batch_shape == (REGIMES, 1, CELLS)


def test_decoders_start_at_the_regimes_of_examples():
    """Three compositions, 60 deep cells: biases are log fold changes against the mean of all."""
    torch.manual_seed(3)
    shares = torch.tensor([[8.0, 1, 1], [1, 8, 1], [1, 1, 8]]).repeat_interleave(4, 1).softmax(-1)
    shares = (shares + 0.02) / (shares + 0.02).sum(-1, keepdim=True)  # (K, G)
    examples = torch.poisson(5e4 * shares.repeat_interleave(20, 0))
    model = MixtureOfVAEs(12, examples=examples, **SMALL)
    started = torch.stack([each.bias for each in model.decode.read_out.maps]).detach()
    wanted = shares.log() - shares.log().mean(0)
    distance = torch.cdist(started, wanted)  # the networks' own biases are within 1/2
    assert sorted(distance.argmin(1).tolist()) == [0, 1, 2]
    assert distance.min(1).values.max() < 0.5 * 12**0.5


def test_draws_without_data_come_from_all_regimes(pair):
    model, _ = pair
    with torch.no_grad():
        x = call(model, {"library": torch.full((300, 1), 100.0)})
    assert x.shape == (300, GENES) and (x >= 0).all()
