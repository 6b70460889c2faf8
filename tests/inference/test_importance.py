"""Renyi's bounds and IWAE: identities, exact evidences, and doubly reparameterised gradients."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO
from torch import nn
from torch.distributions import MultivariateNormal, Normal

from pgm_expr.guides import LatentLibraryGuide
from pgm_expr.inference import IWAE, Renyi, Trace
from pgm_expr.models import LatentLibrary
from pgm_expr.parts import FlowPosterior, LowRankNormal

ALPHAS = (0.0, 0.5, 2.0)


@pytest.fixture
def wide(ppca):
    """A PPCA whose guide is off in place and width, differently by dimension."""
    with torch.no_grad():
        ppca.guide.loc.bias.add_(torch.tensor([0.0, 0.3, -0.2]))
        ppca.guide.log_scale.add_(torch.tensor([0.1, 0.4, -0.3]))
    return ppca


def renyi(case, alpha, particles, **options):
    sizes = dict(cells=case.cells, particles=particles)
    return Renyi(case.model, case.guide, **sizes, alpha=alpha, **options)


def seeded(function, *args, seed=5, **kwargs):
    torch.manual_seed(seed)
    return function(*args, **kwargs)


def average(values):
    """Mean and standard error over draws, the first dimension."""
    return values.mean(0), values.std(0) / len(values) ** 0.5


# Identities


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9, 2.0])
def test_equals_pyro_on_the_same_draws(wide, alpha):
    """Pyro's sums over cells; it is right on a plain plate without shared sites."""
    pyros = RenyiELBO(alpha, 6, max_plate_nesting=1, vectorize_particles=True)
    total = seeded(pyros.loss, wide.model, wide.guide, **wide.batch)
    ours = seeded(renyi(wide, alpha, 6), **wide.batch).item()
    assert ours * wide.cells == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_is_its_formula_of_the_weights(wide, alpha):
    bound = renyi(wide, alpha, 7)
    w = seeded(bound.log_weights, **wide.batch).exp()  # (S, N)
    by_hand = (w ** (1 - alpha)).mean(0).log() / (1 - alpha)
    assert torch.allclose(seeded(bound.per_cell, **wide.batch), by_hand, rtol=1e-10)
    assert torch.allclose(seeded(bound, **wide.batch), -by_hand.mean(), rtol=1e-10)


def test_weights_are_those_of_the_densities(wide):
    """p(x, z) / q(z | x) by torch, at the same z."""
    noise = seeded(torch.randn, 4, wide.cells, 3)
    q = Normal(wide.guide.loc(wide.x), wide.guide.log_scale.exp())
    z = q.loc + q.scale * noise
    observed = Normal(z @ wide.model.loadings.T + wide.model.mu, wide.model.log_sigma.exp())
    ratio = Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)
    by_hand = observed.log_prob(wide.x).sum(-1) + ratio.sum(-1)
    ours = seeded(renyi(wide, 0.5, 4).log_weights, **wide.batch)
    assert torch.allclose(ours, by_hand, rtol=1e-10)


def test_alpha_to_one_is_trace(wide):
    """The gap falls tenfold with 1 - alpha, from either side."""
    trace = Trace(wide.model, wide.guide, cells=wide.cells, particles=5)
    limit = seeded(trace.per_cell, **wide.batch)
    for side in (-1, 1):
        coarse, fine = (
            seeded(renyi(wide, 1 + side * step, 5).per_cell, **wide.batch) - limit
            for step in (1e-4, 1e-5)
        )
        assert torch.allclose(coarse, 10 * fine, rtol=0.01, atol=1e-8)
        assert fine.abs().max() < 1e-3


@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0, 30.0])
def test_one_particle_is_trace_whatever_alpha(wide, alpha):
    trace = Trace(wide.model, wide.guide, cells=wide.cells)
    bound = seeded(renyi(wide, alpha, 1).per_cell, **wide.batch)
    assert torch.allclose(bound, seeded(trace.per_cell, **wide.batch), rtol=1e-10)


@pytest.mark.parametrize("doubly", [False, True])
def test_iwae_is_renyi_of_order_zero(wide, doubly):
    iwae = IWAE(wide.model, wide.guide, cells=wide.cells, particles=6, doubly=doubly)
    values = [seeded(b, **wide.batch) for b in (iwae, renyi(wide, 0.0, 6, doubly=doubly))]
    gradients = [torch.autograd.grad(v, [*iwae.parameters()]) for v in values]
    assert torch.equal(*values) and all(map(torch.equal, *gradients))


def test_falls_with_alpha_at_every_draw(wide):
    """Power means of the same weights."""
    orders = (0.0, 0.3, 0.5, 0.999, 1.001, 2.0, 5.0)
    bounds = [seeded(renyi(wide, alpha, 8).per_cell, **wide.batch) for alpha in orders]
    assert all((high > low).all() for high, low in zip(bounds, bounds[1:], strict=False))


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("particles", [1, 6])
def test_exact_posterior_gives_the_evidence_at_every_draw(ppca, stories, alpha, particles):
    guide = stories.ExactGuide(ppca.model)
    bound = Renyi(ppca.model, guide, cells=ppca.cells, particles=particles, alpha=alpha)
    for _ in range(3):
        assert torch.allclose(bound.per_cell(**ppca.batch), ppca.model.evidence(ppca.x))


# Bounds


@pytest.mark.parametrize("particles", [1, 10, 1000])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_stays_below_the_evidence(wide, alpha, particles):
    """Four standard errors, one-sided: fails in 3e-5 of cases."""
    bound, evidence = renyi(wide, alpha, particles), wide.model.evidence(wide.x).mean()
    mean, error = average(means_of(bound, wide.batch, 200 if particles < 1000 else 40))
    assert mean < evidence + 4 * error and error < 0.05


@torch.no_grad()
def means_of(bound, batch, draws):
    return torch.stack([bound.per_cell(**batch).mean() for _ in range(draws)])


def divergence(alpha, q, p):
    """Renyi's D_alpha(q || p) of two Gaussians, Gil et al. 2013."""
    from_q, to_p, gap = q.covariance_matrix[0], p.covariance_matrix[0], q.loc - p.loc  # of all
    between = (1 - alpha) * from_q + alpha * to_p
    logs = (1 - alpha) * from_q.logdet() + alpha * to_p.logdet()
    distance = (gap * torch.linalg.solve(between, gap.mT).mT).sum(-1)
    return alpha / 2 * distance + (between.logdet() - logs) / (2 * (1 - alpha))


@pytest.mark.parametrize("alpha", [0.3, 0.5, 1.5])
def test_many_particles_give_the_evidence_less_the_divergence(ppca, alpha):
    """Each of 40 cells within five standard errors, fails in 2e-5 of cases; and near it."""
    ppca.guide.match(ppca.model, 0.9)
    with torch.no_grad():
        ppca.guide.loc.bias.add_(0.1)
        mean, error = average(
            torch.stack([renyi(ppca, alpha, 1000).per_cell(**ppca.batch) for _ in range(40)])
        )
        q = MultivariateNormal(ppca.guide.loc(ppca.x), (2 * ppca.guide.log_scale).exp().diag())
        exact = (ppca.x - ppca.model.mu) @ ppca.model.gain().T
        p = MultivariateNormal(exact, precision_matrix=ppca.model.precision())
        limit = ppca.model.evidence(ppca.x) - divergence(alpha, q, p)
    bias = 2e-3  # of a thousand particles
    assert ((mean - limit).abs() < 5 * error + bias).all() and error.max() < 0.02


@pytest.mark.parametrize("particles", [1, 100])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_stays_a_bound_with_a_shared_site_in_minibatches(shared, stories, alpha, particles):
    """Five minibatches, each with its own one draw of mu; 3e-5 of cases fail."""
    guide = stories.SharedMeanGuide(shared.model, shared.x, exact=False)
    bound = Renyi(shared.model, guide, cells=shared.cells, particles=particles, alpha=alpha)
    parts = [{n: c[rows] for n, c in shared.batch.items()} for rows in torch.arange(10).split(2)]
    with torch.no_grad():
        sums = [sum(bound.per_cell(**part).sum() for part in parts) for _ in range(60)]
    mean, error = average(torch.stack(sums))
    assert mean < shared.model.evidence(shared.x) + 4 * error and error < 1
    assert bound.traces(parts[0])[0].nodes["mu"]["value"].shape == (2,)


def test_more_particles_never_loosen_the_bound_of_a_vae(float64, table, pair):
    """M14: K = 1 to 50 on counts, no step down by four standard errors; 2e-4 of cases fail."""
    curve = []
    for particles in (1, 2, 5, 10, 20, 50):
        bound = IWAE(*pair(), cells=64, particles=particles).eval()
        curve.append(average(means_of(bound, table.columns, 60)))
    for (low, low_error), (high, high_error) in zip(curve, curve[1:], strict=False):
        assert high - low > -4 * math.hypot(low_error, high_error)
    assert curve[-1][0] - curve[0][0] > 8 * curve[0][1]


# Gradients


class Copies(nn.Module):
    """R copies of a diagonal guide, with weights of their own, for R copies of some cells."""

    def __init__(self, guide, copies):
        super().__init__()
        parts = guide.loc.weight, guide.loc.bias[None], guide.log_scale[None]
        self.weight, self.bias, self.log_scale = (
            nn.Parameter(part.detach().repeat(copies, 1, 1)) for part in parts
        )  # (R, D, G), (R, 1, D), (R, 1, D)

    def forward(self, library, x=None):
        loc = x.view(len(self.weight), -1, x.shape[-1]) @ self.weight.mT + self.bias  # (R, N, D)
        scale = self.log_scale.exp().expand_as(loc)
        with pyro.plate("cells", len(library)):
            pyro.sample("z", dist.Normal(loc.flatten(0, 1), scale.flatten(0, 1)).to_event(1))


class Worlds(nn.Module):
    """R worlds of two cells: mu ~ N(0, 1) of each world is shared, x ~ N(z + mu, .5^2)."""

    def __init__(self, worlds):
        super().__init__()
        self.worlds = worlds

    def forward(self, library, x=None):
        mu = pyro.sample("mu", dist.Normal(torch.zeros(self.worlds, 1), 1.0).to_event(2))
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            mean = z + mu.repeat_interleave(2, 0)
            pyro.sample("x", dist.Normal(mean, 0.5).to_event(1), obs=x)


class WorldsGuide(nn.Module):
    """mu ~ N(m, s^2), z ~ N(slope (x - mu) + shift, width^2): each world has its own five."""

    def __init__(self, worlds):
        super().__init__()
        start = torch.tensor([0.9, -0.5, 0.5, 0.4, -0.4])
        self.five = nn.Parameter(start.repeat(worlds, 1, 1))  # (R, 1, 5)

    def forward(self, library, x=None):
        m, log_s, slope, shift, log_width = self.five.unbind(-1)  # (R, 1)
        mu = pyro.sample("mu", dist.Normal(m, log_s.exp()).to_event(2))
        loc = slope[..., None] * (x.view(-1, 2, 1) - mu[..., None]) + shift[..., None]
        width = log_width.exp()[..., None].expand_as(loc)  # (R, 2, 1)
        with pyro.plate("cells", len(library)):
            pyro.sample("z", dist.Normal(loc.flatten(0, 1), width.flatten(0, 1)).to_event(1))


def gradients(model, guide, batch, alpha, particles, doubly, beta=1.0, seed=0):
    """The guide's gradient from each copy's own draws, (R, P)."""
    cells = len(batch["x"])
    bound = Renyi(model, guide, cells=cells, particles=particles, alpha=alpha, doubly=doubly)
    loss = seeded(bound.temper(beta), **batch, seed=seed)
    copies = [g.flatten(1) for g in torch.autograd.grad(loss, [*guide.parameters()])]
    return torch.cat(copies, 1) * len(copies[0])


def copied(case, copies, cells=4):
    batch = {name: column[:cells].repeat(copies, 1) for name, column in case.batch.items()}
    return case.model, Copies(case.guide, copies), batch


def agree(plain, doubly, sure):
    """Means within `sure` standard errors of their difference, and signal to be wrong about."""
    (mean, error), (other, other_error) = average(plain), average(doubly)
    both = torch.sqrt(error**2 + other_error**2)
    assert ((mean - other).abs() <= sure * both).all()  # both 0 behind a dead unit
    assert (mean.abs() > 10 * both)[both > 0].float().mean() > 0.4


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_doubly_reparameterised_gradient_is_unbiased(wide, alpha, beta):
    """All 24 parameters of the guide within five standard errors; 1e-5 of cases fail."""
    case = copied(wide, 4000)
    plain = gradients(*case, alpha, 6, doubly=False, beta=beta, seed=1)
    agree(plain, gradients(*case, alpha, 6, doubly=True, beta=beta, seed=2), 5)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_doubly_reparameterised_gradient_is_unbiased_beside_a_shared_site(float64, alpha):
    """Also that of the shared site, on which z depends; 3e-6 of cases fail."""
    worlds = 20_000
    x = torch.tensor([1.5, -0.4]).repeat(worlds)[:, None]
    case = Worlds(worlds), WorldsGuide(worlds), {"library": torch.ones_like(x), "x": x}
    plain = gradients(*case, alpha, 4, doubly=False, seed=1)
    agree(plain, gradients(*case, alpha, 4, doubly=True, seed=2), 5)


@pytest.mark.parametrize("posterior", [LowRankNormal, FlowPosterior])
def test_doubly_reparameterised_gradient_is_unbiased_for_other_posteriors(
    float64, table, pair, posterior
):
    """The 18 numbers of loc, in 40 blocks of draws, six standard errors; 1e-6 of cases fail."""
    model, guide = pair()
    guide.posterior = posterior(8, 2)
    batch = {name: table.columns[name][:4].repeat(50, 1) for name in ("x", "library")}
    blocks = {}
    for doubly in (False, True):
        bound = IWAE(model, guide, cells=200, particles=6, doubly=doubly).eval()
        losses = (seeded(bound, **batch, seed=2 * seed + doubly) for seed in range(40))
        found = [torch.autograd.grad(loss, [*guide.posterior.loc.parameters()]) for loss in losses]
        blocks[doubly] = torch.stack([torch.cat([g.flatten() for g in each]) for each in found])
    agree(blocks[False], blocks[True], 6)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_doubly_changes_neither_value_nor_model_gradient(wide, alpha):
    plain, doubly = (renyi(wide, alpha, 6, doubly=d).temper(0.7) for d in (False, True))
    values = [seeded(bound, **wide.batch) for bound in (plain, doubly)]
    assert torch.allclose(*values, rtol=1e-12)
    ours, theirs = (torch.autograd.grad(v, [*wide.model.parameters()]) for v in values)
    assert all(torch.allclose(a, b, rtol=1e-10) for a, b in zip(ours, theirs, strict=True))
    assert torch.equal(*(seeded(bound.per_cell, **wide.batch) for bound in (plain, doubly)))


def test_doubly_reparameterised_gradient_is_quieter_near_the_optimum(ppca):
    """IWAE at S = 64: a variance 250 to 1,700 times less, signal-to-noise 16 to 40 times more."""
    with torch.no_grad():
        ppca.guide.match(ppca.model, 1.1).loc.bias.add_(0.1)
    case = copied(ppca, 400)
    plain, doubly = (gradients(*case, 0.0, 64, doubly=d, seed=1) for d in (False, True))
    assert (doubly.var(0) < plain.var(0) / 100).all()
    (signal, error), noise = average(doubly), (plain.std(0), doubly.std(0))
    clear = signal.abs() > 10 * error
    assert clear.sum() >= 12 and (noise[0] > 8 * noise[1])[clear].all()


def test_plain_signal_drowns_as_particles_grow_and_doubly_does_not(ppca):
    """Rainforth et al. 2018: the guide's signal-to-noise falls as S^(-1/2), or rises so.

    Measured: .23 to .02 from S = 4 to 64 plain, 1.6 to 6.7 doubly reparameterised.
    """
    ppca.guide.match(ppca.model, 1.3)
    case, ratios = copied(ppca, 1000), {}
    for doubly in (False, True):
        for particles in (4, 64):
            noisy = gradients(*case, 0.0, particles, doubly=doubly)[:, -3:]  # the scales
            ratios[doubly, particles] = (noisy.mean(0).abs() / noisy.std(0)).mean()
    assert ratios[False, 64] < ratios[False, 4] / 2 and ratios[True, 64] > ratios[True, 4]


def test_doubly_without_gradients_asks_for_none(wide):
    with torch.no_grad():
        seeded(renyi(wide, 0.0, 3, doubly=True), **wide.batch)


# What is refused


def test_two_latent_sites_are_refused(table):
    sizes = dict(genes=table.genes, latent=2, hidden=8)
    pair = LatentLibrary(**sizes), LatentLibraryGuide(**sizes)
    IWAE(*pair, cells=64, particles=2)(**table.columns)
    with pytest.raises(ValueError, match="one latent site a cell: got z, log_library") as caught:
        IWAE(*pair, cells=64, particles=2, doubly=True)(**table.columns)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("alpha", [1, 1.0, -0.5, float("nan"), float("inf")])
def test_no_bound_of_that_order(ppca, alpha):
    with pytest.raises(ValueError, match="alpha must be at least 0 and not 1") as caught:
        renyi(ppca, alpha, 2)
    assert "\n" not in str(caught.value) and str(alpha) in str(caught.value)


def test_free_bits_are_refused(ppca):
    with pytest.raises(ValueError, match="Renyi has no KL to floor: got free_bits=1"):
        renyi(ppca, 0.5, 2).free_bits(1.0)
