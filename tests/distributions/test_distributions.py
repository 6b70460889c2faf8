"""Count distributions: scipy, limits, moments, shapes, gradients, the sparse and dense path."""

import itertools

import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from pgm_expr.distributions import (
    NegativeBinomial,
    Poisson,
    ZeroInflatedNegativeBinomial,
    negative_binomial,
    sparse,
)

KINDS = {"nb": NegativeBinomial, "zinb": ZeroInflatedNegativeBinomial, "poisson": Poisson}
NUMBERS = {"nb": 2, "zinb": 3, "poisson": 1}


@pytest.fixture(params=KINDS)
def kind(request, float64):
    torch.manual_seed(0)
    return request.param


def parameters(kind, *shapes):
    """log_mean, log_dispersion, gate_logits: as many as `kind` takes, one shape or one each."""
    shapes = shapes * 3 if len(shapes) == 1 else shapes
    return [torch.randn(shape) for shape in shapes[: NUMBERS[kind]]]


def counts(shape):
    return torch.poisson(torch.rand(shape) * 3)


@pytest.fixture
def grid(float64):
    points = itertools.product(range(41), [0.01, 0.7, 6.0, 30.0], [0.05, 1.0, 12.0, 400.0])
    return torch.tensor(list(points), dtype=torch.float64).T


def test_nb_is_scipys(grid):
    x, mean, theta = grid
    expected = torch.from_numpy(stats.nbinom.logpmf(x, theta, theta / (theta + mean)))
    value = NegativeBinomial(mean.log(), theta.log()).log_prob(x)
    assert torch.allclose(value, expected, rtol=1e-10, atol=1e-10)


def test_nb_is_pyros_gamma_poisson(grid):
    x, mean, theta = grid
    expected = dist.GammaPoisson(theta, theta / mean).log_prob(x)
    assert torch.allclose(NegativeBinomial(mean.log(), theta.log()).log_prob(x), expected)


def test_poisson_is_scipys(grid):
    x, mean, _ = grid
    expected = torch.from_numpy(stats.poisson.logpmf(x, mean))
    assert torch.allclose(Poisson(mean.log()).log_prob(x), expected, rtol=1e-10, atol=1e-10)


def test_zinb_is_pyros_zero_inflated_nb(grid):
    x, mean, theta = grid
    gate = torch.linspace(0.01, 0.99, len(x))
    expected = dist.ZeroInflatedNegativeBinomial(
        theta, logits=mean.log() - theta.log(), gate=gate
    ).log_prob(x)
    ours = ZeroInflatedNegativeBinomial(mean.log(), theta.log(), gate.logit())
    assert torch.allclose(ours.log_prob(x), expected)


def test_large_theta_is_poisson(grid):
    """The difference falls as 1 / theta: two orders of theta, two orders of magnitude."""
    x, mean, _ = grid
    limit = Poisson(mean.log()).log_prob(x)
    gaps = [
        (NegativeBinomial(mean.log(), torch.tensor(theta).log()).log_prob(x) - limit).abs().max()
        for theta in (1e4, 1e6, 1e8)
    ]
    assert gaps[2] < 1e-5 and torch.allclose(gaps[0] / gaps[1], torch.tensor(100.0), rtol=0.1)


def test_closed_gate_is_nb(grid):
    x, mean, theta = grid
    gated = ZeroInflatedNegativeBinomial(mean.log(), theta.log(), torch.tensor(-700.0))
    expected = NegativeBinomial(mean.log(), theta.log()).log_prob(x)
    assert torch.allclose(gated.log_prob(x), expected, rtol=1e-12)


def test_open_gate_is_a_point_at_zero(grid):
    x, mean, theta = grid
    gated = ZeroInflatedNegativeBinomial(mean.log(), theta.log(), torch.tensor(700.0))
    value = gated.log_prob(x)
    assert (value[x == 0].abs() < 1e-12).all() and (value[x > 0] < -600).all()
    assert not gated.sample().any()


def test_sums_to_one(kind):
    d = KINDS[kind](*parameters(kind, (6,)))
    total = d.log_prob(torch.arange(4000.0)[:, None]).exp().sum(0)
    assert torch.allclose(total, torch.ones(6), rtol=1e-10)


def test_moments_are_those_of_the_probabilities(kind):
    d, x = KINDS[kind](*parameters(kind, (6,))), torch.arange(4000.0)[:, None]
    p = d.log_prob(x).exp()
    mean = (p * x).sum(0)
    assert torch.allclose(d.mean, mean, rtol=1e-10)
    assert torch.allclose(d.variance, (p * (x - mean) ** 2).sum(0), rtol=1e-9)


def test_draws_follow_the_probabilities(kind):
    """Frequencies of 0..5 and moments within 4.5 standard errors: failure rate 1e-3, seeded."""
    n, d = 100_000, KINDS[kind](*parameters(kind, (4,)))
    draws = d.sample((n,))
    for x in range(6):
        p = d.log_prob(torch.full((4,), float(x))).exp()
        frequency = (draws == x).double().mean(0)
        assert ((frequency - p).abs() < 4.5 * (p * (1 - p) / n).sqrt()).all()
    assert ((draws.mean(0) - d.mean).abs() < 4.5 * (d.variance / n).sqrt()).all()
    squares = (draws - d.mean) ** 2
    assert ((squares.mean(0) - d.variance).abs() < 4.5 * squares.std(0) / n**0.5).all()


@pytest.mark.parametrize("theta", [0.1, 1e-2, 1e-3])
def test_draws_of_tiny_dispersion(float64, theta):
    """Almost all are zero; mean and share of zeros within 4.5 standard errors."""
    torch.manual_seed(1)
    n, d = 1_000_000, NegativeBinomial(torch.tensor(3.0).log(), torch.tensor(theta).log())
    draws = d.sample((n,))
    zero = d.log_prob(torch.zeros(1)).exp()
    share = (draws == 0).double().mean()
    assert (share - zero).abs() < 4.5 * (zero * (1 - zero) / n).sqrt()
    assert (draws.mean() - 3.0).abs() < 4.5 * (d.variance / n).sqrt()
    assert draws.isfinite().all()


def test_a_single_number(kind):
    """Parameters and value without any dimension."""
    p = parameters(kind, ())
    value = KINDS[kind](*p).log_prob(torch.tensor(2.0))
    listed = KINDS[kind](*(t.view(1) for t in p)).log_prob(torch.tensor([2.0]))
    assert value.shape == () and torch.allclose(value, listed.squeeze())


def test_expands_after_its_moments_were_read(kind):
    d = KINDS[kind](*parameters(kind, (5,)))
    mean, _ = d.mean, d.sample()
    assert torch.equal(d.expand((4, 5)).mean, mean.expand(4, 5))


def test_expand_and_to_event(kind):
    p, x = parameters(kind, (5,)), counts((3, 4, 5))
    d = KINDS[kind](*p)
    wide = d.expand((4, 5)).to_event(1)
    assert wide.batch_shape == (4,) and wide.event_shape == (5,)
    assert wide.sample((3,)).shape == (3, 4, 5)
    expected = KINDS[kind](*(t.expand(3, 4, 5) for t in p)).log_prob(x)
    assert torch.allclose(wide.log_prob(x), expected.sum(-1), rtol=1e-12)
    assert d.expand((4, 5)).expand((3, 4, 5)).log_prob(x).allclose(expected)
    assert d.expand((4, 5))._validate_args == d._validate_args


@pytest.mark.parametrize(
    "shapes",
    [
        [(2, 3, 4), (4,), (4,)],
        [(4,), (2, 3, 4), (3, 1)],
        [(3, 4), (4,), (2, 1, 4)],
        [(4,), (4,), (4,)],
        [(), (), ()],
        [(3, 1), (4,), (1, 4)],
    ],
    ids=str,
)
def test_broadcasting_is_writing_out(kind, shapes):
    """Values and gradients of (G,) parameters against (S, N, G) equal those of full tensors."""
    small = [p.requires_grad_() for p in parameters(kind, *shapes)]
    x = counts((2, 3, 4))
    full = [p.detach().expand(2, 3, 4).clone().requires_grad_() for p in small]
    value, expected = (KINDS[kind](*p).log_prob(x) for p in (small, full))
    assert value.shape == (2, 3, 4) and torch.allclose(value, expected, rtol=1e-12)
    weights = torch.randn(2, 3, 4)
    (value * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, whole in zip(small, full, strict=True):
        assert torch.allclose(mine.grad, whole.grad.sum_to_size(mine.shape), rtol=1e-10)


def test_one_value_for_many_parameters(kind):
    p = parameters(kind, (3, 4))
    value = KINDS[kind](*p).log_prob(torch.tensor(2.0))
    assert torch.allclose(value, KINDS[kind](*p).log_prob(torch.full((3, 4), 2.0)))


def test_gradient(kind):
    p = [t.requires_grad_() for t in parameters(kind, (3, 4), (4,), (4,))]
    x = counts((2, 3, 4))
    assert (x == 0).any() and (x > 2).any()
    assert torch.autograd.gradcheck(lambda *p: KINDS[kind](*p).log_prob(x), p)


@pytest.mark.parametrize("position", [0, 1])
def test_gradient_of_one_parameter_alone(float64, position):
    p, x = parameters("nb", (3, 4)), counts((3, 4))

    def log_prob(free):
        both = (free, p[1]) if position == 0 else (p[0], free)
        return NegativeBinomial(*both).log_prob(x)

    assert torch.autograd.gradcheck(log_prob, p[position].clone().requires_grad_())


@pytest.mark.parametrize("wrong", [-1.0, 0.5, float("nan")])
def test_values_outside_the_support_raise(kind, wrong):
    d = KINDS[kind](*parameters(kind, (4,)))
    x = torch.tensor([0.0, 1.0, wrong, 2.0])
    for checked in (d, d.expand((3, 4)), d.to_event(1)):
        with pytest.raises(ValueError, match="support"):
            checked.log_prob(x)


def test_a_parameter_that_is_no_number_raises(kind):
    p = parameters(kind, (4,))
    p[0][2] = float("nan")
    with pytest.raises(ValueError, match="log_mean"):
        KINDS[kind](*p)


def value_and_gradients(kind, p, x):
    p = [t.detach().clone().requires_grad_() for t in p]
    value = KINDS[kind](*p).log_prob(x)
    (value * torch.linspace(1, 2, value.shape[-1])).sum().backward()
    return [value.detach(), *(t.grad for t in p)]


def test_the_dense_path_of_an_accelerator_agrees(kind, monkeypatch):
    """Values and gradients with every entry computed at length, and chosen by `where`."""
    p, x = parameters(kind, (6, 8), (8,), (8,)), counts((6, 8))
    on_cpu = value_and_gradients(kind, p, x)
    monkeypatch.setattr(sparse, "everywhere", lambda x: True)
    for mine, dense in zip(on_cpu, value_and_gradients(kind, p, x), strict=True):
        assert torch.allclose(mine, dense, rtol=1e-10)


def by_lgamma(x, log_mean, log_dispersion):
    """log p(x) of the negative binomial as textbooks write it, exact enough at small counts."""
    m, theta = log_mean.exp(), log_dispersion.exp()
    gammas = torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)
    total = (theta + m).log()
    return gammas + theta * (log_dispersion - total) + x * (log_mean - total)


@pytest.mark.parametrize("shape", [(8, 1), (8,), (8, 8), (1, 8), (30, 1, 8), (30, 8, 8)])
def test_counts_agree_however_the_dispersion_is_expanded(float64, shape):
    """One dispersion a gene, a cell or an entry; counts that are looked up, and that are not."""
    torch.manual_seed(0)
    p, x = parameters("nb", (30, 8, 8), shape), torch.poisson(12 * torch.rand(8, 8))
    x = x.expand(30, 8, 8)
    assert (x == 0).any() and ((0 < x) & (x <= negative_binomial.TABLE)).any()
    assert (x > negative_binomial.TABLE).any()
    written = [t.detach().clone().requires_grad_() for t in p]
    weights = torch.linspace(1, 2, 8)
    expected = by_lgamma(x, *written)
    (expected * weights).sum().backward()
    for mine, truth in zip(
        value_and_gradients("nb", p, x), [expected, *(t.grad for t in written)], strict=True
    ):
        assert torch.allclose(mine, truth, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("shape", [(3, 4), (1, 4), (0, 4)])
def test_no_positive_count_at_all(kind, shape):
    p, x = parameters(kind, (4,)), torch.zeros(shape)
    value, *gradients = value_and_gradients(kind, p, x)
    assert value.shape == shape and all(g.isfinite().all() for g in gradients)
    mean = p[0].exp()
    if kind == "poisson":
        expected = -mean
    else:
        theta = p[1].exp()
        expected = theta * (theta / (theta + mean)).log()
    if kind == "zinb":
        gate = p[2].sigmoid()
        expected = (gate + (1 - gate) * expected.exp()).log()
    assert torch.allclose(value, expected.expand(shape))
    if kind == "nb" and len(x):
        by_mean = -theta * mean / (theta + mean)
        weights = len(x) * torch.linspace(1, 2, 4)
        assert torch.allclose(gradients[0], by_mean * weights)


@pytest.mark.parametrize("counted", [torch.int64, torch.float32, torch.float64])
@pytest.mark.parametrize("parametrised", [torch.float32, torch.float64])
def test_counts_and_parameters_may_differ_in_type(kind, counted, parametrised):
    """The answer has the parameters' type and, but for rounding, the same value."""
    p, x = parameters(kind, (6, 8), (8,), (8,)), counts((6, 8))
    mixed = KINDS[kind](*(t.to(parametrised) for t in p)).log_prob(x.to(counted))
    assert mixed.dtype == parametrised
    assert torch.allclose(mixed.double(), KINDS[kind](*p).log_prob(x).double(), atol=1e-4)
