"""The objectives against Pyro's own, their modifiers, what they refuse, and their gradients."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from torch import nn
from torch.distributions import Normal, kl_divergence

from pgm_expr.inference import IWAE, MeanField, Trace, check_story

OBJECTIVES = [Trace, MeanField, IWAE]


@pytest.fixture
def wide(ppca):
    """A PPCA whose guide is off in place and width, differently by dimension."""
    with torch.no_grad():
        ppca.guide.loc.bias.add_(torch.tensor([0.0, 0.3, -0.2]))
        ppca.guide.log_scale.add_(torch.tensor([0.1, 0.4, -0.3]))
    return ppca


def seeded(function, *args, seed=5, **kwargs):
    torch.manual_seed(seed)
    return function(*args, **kwargs)


def divergences(case):
    """KL(q || N(0, 1)) by cell and dimension, by torch."""
    q = Normal(case.guide.loc(case.x), case.guide.log_scale.exp())
    return kl_divergence(q, Normal(0.0, 1.0))


@pytest.mark.parametrize("particles", [1, 6])
@pytest.mark.parametrize(
    "ours, theirs", [(Trace, Trace_ELBO), (MeanField, TraceMeanField_ELBO)], ids=str
)
def test_equals_pyro_on_the_same_draws(wide, ours, theirs, particles):
    pyro_loss = theirs(particles, max_plate_nesting=1, vectorize_particles=particles > 1)
    objective = ours(wide.model, wide.guide, cells=wide.cells, particles=particles)
    loss = seeded(objective, **wide.batch) * wide.cells
    total = seeded(pyro_loss.differentiable_loss, wide.model, wide.guide, **wide.batch)
    assert torch.allclose(loss, total, rtol=1e-12)
    parameters = list(objective.parameters())
    gradients = [torch.autograd.grad(value, parameters) for value in (loss, total)]
    for mine, pyros in zip(*gradients, strict=True):
        assert torch.allclose(mine, pyros, rtol=1e-9)


def test_iwae_equals_pyro_on_the_same_draws(wide):
    pyro_bound = RenyiELBO(0, 6, max_plate_nesting=1, vectorize_particles=True)
    objective = IWAE(wide.model, wide.guide, cells=wide.cells, particles=6)
    total = seeded(pyro_bound.loss, wide.model, wide.guide, **wide.batch)
    assert seeded(objective, **wide.batch).item() * wide.cells == pytest.approx(total, rel=1e-12)


def test_shared_site_equals_pyro(shared, stories):
    guide = stories.SharedMeanGuide(shared.model, shared.x, exact=False)
    ours = seeded(Trace(shared.model, guide, cells=shared.cells), **shared.batch)
    theirs = seeded(Trace_ELBO().differentiable_loss, shared.model, guide, **shared.batch)
    assert torch.allclose(ours * shared.cells, theirs, rtol=1e-12)


def test_mean_field_equals_trace_in_expectation(wide):
    """Each cell within five standard errors: failure rate 2e-5 over 40 cells."""
    means = []
    for kind in (Trace, MeanField):
        objective = kind(wide.model, wide.guide, cells=wide.cells)
        draws = torch.stack([objective.per_cell(**wide.batch).detach() for _ in range(500)])
        means.append((draws.mean(0), draws.var(0) / len(draws)))
    (trace, trace_error), (mean_field, mean_field_error) = means
    assert ((trace - mean_field) ** 2 < 25 * (trace_error + mean_field_error)).all()


def test_iwae_of_one_particle_is_trace(wide):
    bounds = [
        seeded(kind(wide.model, wide.guide, cells=wide.cells).per_cell, **wide.batch)
        for kind in (IWAE, Trace)
    ]
    assert torch.allclose(*bounds, rtol=1e-12)


def test_log_weights_are_those_of_the_bound(wide):
    objective = IWAE(wide.model, wide.guide, cells=wide.cells, particles=4)
    weights = seeded(objective.log_weights, **wide.batch)
    assert weights.shape == (4, wide.cells)
    bound = weights.exp().mean(0).log()
    assert torch.allclose(bound, seeded(objective.per_cell, **wide.batch), rtol=1e-10)


@pytest.mark.parametrize("beta", [0.0, 0.3, 4.0])
def test_tempering_weighs_the_kl_alone(wide, beta):
    objective = MeanField(wide.model, wide.guide, cells=wide.cells, particles=3)
    change = seeded(objective, **wide.batch) - seeded(objective.temper(beta), **wide.batch)
    assert torch.allclose(change, (1 - beta) * divergences(wide).sum(-1).mean(), atol=1e-12)


@pytest.mark.parametrize("kind", [Trace, IWAE])
def test_tempering_weighs_log_ratios_at_the_draw(wide, kind):
    objective = kind(wide.model, wide.guide, cells=wide.cells).temper(0.25)
    tempered = seeded(objective, **wide.batch)
    q = Normal(wide.guide.loc(wide.x), wide.guide.log_scale.exp())
    z = seeded(q.sample)
    ratio = (q.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(-1)
    sigma = wide.model.log_sigma.exp()
    observed = Normal(z @ wide.model.loadings.T + wide.model.mu, sigma).log_prob(wide.x).sum(-1)
    assert torch.allclose(tempered, (0.25 * ratio - observed).mean(), rtol=1e-12)


def test_tempered_iwae_weighs_inside_the_mean(wide):
    objective = IWAE(wide.model, wide.guide, cells=wide.cells, particles=4)
    log_weights = {beta: weights_at(objective, beta, wide) for beta in (0.0, 1.0)}
    mixed = 0.7 * log_weights[0.0] + 0.3 * log_weights[1.0]  # linear in beta
    loss = seeded(objective.temper(0.3), **wide.batch)
    assert torch.allclose(loss, -mixed.exp().mean(0).log().mean(), rtol=1e-10)


def weights_at(objective, beta, case):
    draw = seeded(objective.draw, case.batch)
    return draw.observed["x"] - beta * sum(cost.sum(-1) for cost in objective.costs(draw))


def test_shared_sites_are_never_tempered(shared, stories):
    """Of an exact guide all that is left at beta = 0 is log p(x | z, mu) and the shared term."""
    guide = stories.SharedMeanGuide(shared.model, shared.x, exact=False)
    objective = Trace(shared.model, guide, cells=shared.cells).temper(0.0)
    draw = seeded(objective.draw, shared.batch)
    loss = seeded(objective, **shared.batch)
    mu, scale = shared.model.mu_drawn, 1.5 * guide.tril.diagonal()
    ratio = Normal(0.0, 1.0).log_prob(mu) - Normal(guide.mean, scale).log_prob(mu)
    assert torch.allclose(
        loss, -draw.observed["x"].mean() - ratio.sum() / shared.cells, rtol=1e-12
    )


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_modifiers_leave_the_bound_alone(wide, kind):
    objective = kind(wide.model, wide.guide, cells=wide.cells, particles=2)
    before = seeded(objective.per_cell, **wide.batch)
    objective.temper(0.1)
    if kind is not IWAE:
        objective.free_bits(3.0)
    assert torch.equal(seeded(objective.per_cell, **wide.batch), before)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_unmodified_loss_is_minus_the_mean_bound(wide, kind):
    objective = kind(wide.model, wide.guide, cells=wide.cells, particles=3)
    loss, bound = (seeded(f, **wide.batch) for f in (objective, objective.per_cell))
    assert torch.allclose(loss, -bound.mean(), rtol=1e-12)


@pytest.mark.parametrize("kind", [Trace, IWAE])
def test_a_negative_sampled_ratio_is_kept(ppca, kind):
    """log q - log p at one draw is negative for half the draws of a guide near the prior."""
    with torch.no_grad():
        ppca.guide.loc.weight.zero_(), ppca.guide.loc.bias.zero_()
        ppca.guide.log_scale.fill_(0.1)
    objective = kind(ppca.model, ppca.guide, cells=ppca.cells)
    signs = set()
    for seed in range(8):
        draw = seeded(objective.draw, ppca.batch, seed=seed)
        cost = next(iter(objective.costs(draw))).mean()
        signs.add(bool(cost < 0))
        loss = seeded(objective, seed=seed, **ppca.batch)
        assert torch.allclose(loss, cost - draw.observed["x"].mean(), rtol=1e-12)
    assert signs == {True, False}


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_beta_one_is_the_untempered_loss_bit_for_bit(wide, kind):
    objective = kind(wide.model, wide.guide, cells=wide.cells, particles=2)
    never = seeded(objective, **wide.batch)
    assert torch.equal(seeded(objective.temper(0.5).temper(1.0), **wide.batch), never)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_beta_is_written_in_place(wide, kind):
    objective = kind(wide.model, wide.guide, cells=wide.cells)
    beta, before = objective.beta, seeded(objective, **wide.batch)
    assert beta.ndim == objective.floor.ndim == objective.cells.ndim == 0
    assert objective.temper(0.5) is objective and objective.beta is beta
    after = seeded(objective, **wide.batch)
    beta.fill_(1.0)  # what a captured step would see
    assert after != before and seeded(objective, **wide.batch) == before


def test_free_bits_floor_each_dimension_of_the_batch_mean(wide):
    objective = MeanField(wide.model, wide.guide, cells=wide.cells).temper(0.5)
    kl = divergences(wide).mean(0)
    floor = kl.sort().values[1].item() + 0.01  # two of three dimensions lie under it
    change = seeded(objective.free_bits(floor), **wide.batch)
    change = change - seeded(objective.free_bits(0.0), **wide.batch)
    expected = sum(max(floor, cost) for cost in kl.tolist()) - kl.sum().item()
    assert torch.allclose(change, torch.tensor(0.5 * expected), rtol=1e-10)
    assert expected > 0.01


def test_free_bits_of_a_sampled_bound_floor_the_site(wide):
    objective = Trace(wide.model, wide.guide, cells=wide.cells)
    cost = next(iter(objective.costs(seeded(objective.draw, wide.batch)))).mean()
    base = seeded(objective, **wide.batch)
    assert torch.equal(seeded(objective.free_bits(cost.item() - 0.1), **wide.batch), base)
    raised = seeded(objective.free_bits(cost.item() + 0.1), **wide.batch)
    assert torch.allclose(raised - base, torch.tensor(0.1), rtol=1e-10)


def test_no_gradient_under_the_floor(wide):
    """The decoder ignores dimension 1, so that only its KL could move its posterior."""
    with torch.no_grad():
        wide.model.loadings[:, 1] = 0
    kl = divergences(wide).mean(0)
    objective = MeanField(wide.model, wide.guide, cells=wide.cells)
    for floor, moves in [(kl[1].item() * 0.9, True), (kl[1].item() * 1.1, False)]:
        objective.zero_grad()
        objective.free_bits(floor)(**wide.batch).backward()
        assert wide.guide.log_scale.grad[1].abs().gt(1e-6) == moves
        assert wide.guide.loc.weight.grad[1].abs().gt(1e-6).any() == moves
        assert moves or not wide.guide.loc.weight.grad[1].any()
        assert wide.guide.loc.weight.grad[0].any()


def test_iwae_refuses_free_bits(wide):
    objective = IWAE(wide.model, wide.guide, cells=wide.cells)
    with pytest.raises(ValueError, match=r"IWAE has no KL to floor: got free_bits=0\.5"):
        objective.free_bits(0.5)
    assert objective.free_bits(0.0) is objective


def test_a_missing_argument_is_named(ppca):
    objective = Trace(ppca.model, ppca.guide, cells=ppca.cells)
    with pytest.raises(ValueError, match="DiagonalGuide needs library: the minibatch holds x"):
        objective(x=ppca.x)


def test_columns_nobody_names_are_dropped(ppca):
    objective = Trace(ppca.model, ppca.guide, cells=ppca.cells)
    more = ppca.batch | {"label": torch.zeros(40), "index": torch.arange(40)}
    assert torch.equal(seeded(objective, **more), seeded(objective, **ppca.batch))


class Line(nn.Module):
    """z ~ N(0, 1), x ~ N(z, 1), with everything a writer of stories can get wrong."""

    def __init__(self, plate="cells", site="z", events=1, observed_events=1, width=1):
        super().__init__()
        self.plate, self.site, self.width = plate, site, width
        self.events, self.observed_events = events, observed_events

    def forward(self, library, x=None):
        with pyro.plate(self.plate, len(library)):
            zero = torch.zeros(len(library), self.width)
            z = pyro.sample(self.site, dist.Normal(zero, 1.0).to_event(self.events))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(self.observed_events), obs=x)


class LineGuide(Line):
    def forward(self, library, x=None):
        with pyro.plate(self.plate, len(library)):
            zero = torch.zeros(len(library), self.width)
            pyro.sample(self.site, dist.Normal(zero, 1.0).to_event(self.events))


def check(model, guide, cells=4, particles=1):
    batch = {"library": torch.ones(cells, 1), "x": torch.ones(cells, model.width)}
    check_story(Trace(model, guide, cells=cells, particles=particles), batch)


@pytest.mark.parametrize("particles", [1, 3])
def test_check_passes_a_sound_pair(particles):
    check(Line(width=2), LineGuide(width=2), particles=particles)


def test_check_names_the_site_that_differs():
    with pytest.raises(ValueError, match=r"(?s)do not match.*\bw\b"):
        check(Line(), LineGuide(site="w"))


@pytest.mark.parametrize("width", [3, 4])
@pytest.mark.parametrize("wrong", [{"events": 0}, {"observed_events": 0}], ids=str)
def test_check_names_a_site_without_its_event_dimension(wrong, width):
    """Also where the width is the number of cells, and no broadcast fails."""
    model, guide = Line(width=width, **wrong), LineGuide(width=width, events=1)
    guide.events = model.events
    with pytest.raises(ValueError, match="z" if "events" in wrong else "x"):
        check(model, guide)


def test_check_compares_the_event_dimensions_of_model_and_guide():
    with pytest.raises(ValueError, match="z"):
        check(Line(width=3), LineGuide(width=3, events=2))


@pytest.mark.parametrize(
    "model, guide", [("spots", "spots"), ("cells", "spots"), ("spots", "cells")]
)
def test_check_asks_for_the_plate_of_cells(model, guide):
    with pytest.raises(ValueError, match="plate.*'(cells|spots)'" if model != guide else "cells"):
        check(Line(plate=model), LineGuide(plate=guide))


def test_check_leaves_pyro_as_it_was():
    names = ("validate_infer", "validate_distributions_pyro", "module_local_params")
    before = [pyro.settings.get(name) for name in names]
    check(Line(), LineGuide())
    assert [pyro.settings.get(name) for name in names] == before


def test_mean_field_names_a_pair_without_closed_form(ppca):
    class HeavyTails(nn.Module):
        def forward(self, library, x=None):
            with pyro.plate("cells", len(library)):
                pyro.sample("z", dist.StudentT(5.0, torch.zeros(3), 1.0).to_event(1))

    objective = MeanField(ppca.model, HeavyTails(), cells=ppca.cells)
    with pytest.raises(ValueError, match=r"site 'z'.*StudentT.*Use Trace") as caught:
        objective(**ppca.batch)
    assert "\n" not in str(caught.value)
    Trace(ppca.model, HeavyTails(), cells=ppca.cells)(**ppca.batch)


def test_a_mask_drops_the_same_cells_everywhere(ppca):
    mask = torch.arange(40) < 10

    class Masked(nn.Module):
        def __init__(self, half):
            super().__init__()
            self.inner = half

        def forward(self, library, x=None):
            with pyro.poutine.mask(mask=mask):
                return self.inner(library, x)

    halves = Masked(ppca.model), Masked(ppca.guide)
    for kind in OBJECTIVES:
        plain = kind(ppca.model, ppca.guide, cells=ppca.cells)
        masked = kind(*halves, cells=ppca.cells)
        expected = seeded(plain.per_cell, **ppca.batch) * mask
        assert torch.allclose(seeded(masked.per_cell, **ppca.batch), expected, atol=1e-12)


class Conjugate(nn.Module):
    """z ~ N(0, 1), x ~ N(z, 1), and a posterior of its own for each cell."""

    def __init__(self, loc=None, scale=None):
        super().__init__()
        self.loc, self.scale = loc, scale

    def forward(self, library, x=None):
        with pyro.plate("cells", len(library)):
            if self.loc is not None:
                return pyro.sample("z", dist.Normal(self.loc, self.scale).to_event(1))
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def elbo(m, s, x):
    """E_q log p(x | z) - KL(q || p) up to a constant, q = N(m, s^2)."""
    return -((x - m) ** 2 + s**2) / 2 - (m**2 + s**2 - 1) / 2 + s.log()


def test_reparameterised_gradient(float64):
    """Against finite differences of the closed form; and quieter than the score function."""
    torch.manual_seed(2)
    n, x, m, s = 20_000, torch.tensor(1.3), torch.tensor(-0.4), torch.tensor(0.6)
    loc = nn.Parameter(m.expand(n, 1).clone())
    scale = nn.Parameter(s.expand(n, 1).clone())
    objective = Trace(Conjugate(), Conjugate(loc, scale), cells=n)
    objective(library=torch.ones(n, 1), x=x.expand(n, 1)).backward()
    ours = -n * torch.cat([loc.grad, scale.grad], 1)  # one draw a cell: (n, 2)
    h = 1e-5
    exact = torch.stack(
        [
            elbo(m + h, s, x) - elbo(m - h, s, x),
            elbo(m, s + h, x) - elbo(m, s - h, x),
        ]
    ) / (2 * h)
    error = ours.std(0) / n**0.5
    assert ((ours.mean(0) - exact).abs() < 4 * error).all() and (error < 0.05).all()
    noise = torch.randn(n)
    z = m + s * noise
    log_weight = Normal(0.0, 1.0).log_prob(z) + Normal(z, 1.0).log_prob(x)
    log_weight = log_weight - Normal(m, s).log_prob(z)
    score = torch.stack([noise / s, (noise**2 - 1) / s], 1) * log_weight[:, None]
    assert ((score.mean(0) - exact).abs() < 4 * score.std(0) / n**0.5).all()
    assert (ours.var(0) < score.var(0) / 2).all()
