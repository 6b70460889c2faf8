"""Log-probabilities and gradients against mpmath at 50 digits, and at the corners."""

import itertools

import mpmath
import pytest
import torch

from pgm_expr.distributions import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial

mpmath.mp.dps = 50
COUNTS = [0, 1, 2, 3, 7, 20, 150, 1_000, 10_000, 1_000_000]
MEANS = [1e-8, 1e-3, 0.3, 1.0, 6.0, 150.0, 2_000.0, 1e6]
THETAS = [1e-8, 1e-3, 0.1, 1.0, 8.0, 15.9, 16.1, 300.0, 1e4]
LARGE_THETAS = [1e5, 1e6, 1e8]


def nb_exact(x, log_mean, log_dispersion):
    a, r = mpmath.mpf(log_mean), mpmath.mpf(log_dispersion)
    m, theta = mpmath.exp(a), mpmath.exp(r)
    gammas = mpmath.loggamma(x + theta) - mpmath.loggamma(theta) - mpmath.loggamma(x + 1)
    return gammas + theta * mpmath.log(theta / (theta + m)) + x * mpmath.log(m / (theta + m))


def grid(thetas, dtype):
    points = torch.tensor(list(itertools.product(COUNTS, MEANS, thetas)), dtype=torch.float64)
    x, log_mean, log_dispersion = points[:, 0], points[:, 1].log(), points[:, 2].log()
    return x.to(dtype), log_mean.to(dtype), log_dispersion.to(dtype)


def exact(x, *parameters, formula=nb_exact):
    rows = zip(x.tolist(), *(p.tolist() for p in parameters), strict=True)
    return torch.tensor([float(formula(int(n), *p)) for n, *p in rows], dtype=torch.float64)


@pytest.mark.parametrize(
    "thetas, tolerance", [(THETAS, 1e-10), (LARGE_THETAS, 1e-7)], ids=["theta<=1e4", "beyond"]
)
def test_nb_in_float64(thetas, tolerance):
    x, log_mean, log_dispersion = grid(thetas, torch.float64)
    value = NegativeBinomial(log_mean, log_dispersion).log_prob(x)
    truth = exact(x, log_mean, log_dispersion)
    assert ((value - truth).abs() / truth.abs()).max() < tolerance


def test_nb_in_float32():
    x, log_mean, log_dispersion = grid(THETAS + LARGE_THETAS, torch.float32)
    value = NegativeBinomial(log_mean, log_dispersion).log_prob(x)
    assert value.dtype == torch.float32
    truth = exact(x, log_mean, log_dispersion)
    assert ((value - truth).abs() - 1e-4 - 1e-5 * truth.abs()).max() < 0


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-7), (torch.float32, 2e-5)])
def test_nb_gradient(dtype, tolerance):
    """Against mpmath's derivatives; the scale is that of the terms that cancel."""
    x, log_mean, log_dispersion = grid([1e-3, 1.0, 15.9, 16.1, 1e4], dtype)
    log_mean.requires_grad_(), log_dispersion.requires_grad_()
    NegativeBinomial(log_mean, log_dispersion).log_prob(x).sum().backward()

    def by_mean(n, a, r):
        m, theta = mpmath.exp(a), mpmath.exp(r)
        return (n - m) * theta / (theta + m)

    def by_dispersion(n, a, r):
        m, theta = mpmath.exp(a), mpmath.exp(r)
        change = mpmath.digamma(n + theta) - mpmath.digamma(theta) - mpmath.log1p(m / theta)
        return theta * change - by_mean(n, a, r)

    parameters = log_mean.detach(), log_dispersion.detach()
    scale = 1 + x.double() + torch.minimum(parameters[0].exp(), parameters[1].exp())
    for got, formula in ((log_mean.grad, by_mean), (log_dispersion.grad, by_dispersion)):
        assert ((got - exact(x, *parameters, formula=formula)).abs() / scale).max() < tolerance


def test_poisson():
    for dtype, absolute, relative in [(torch.float64, 0, 1e-10), (torch.float32, 1e-4, 1e-5)]:
        x, log_mean, _ = grid([1.0], dtype)
        truth = exact(
            x,
            log_mean,
            formula=lambda n, a: n * mpmath.mpf(a) - mpmath.exp(a) - mpmath.loggamma(n + 1),
        )
        value = Poisson(log_mean).log_prob(x)
        assert ((value - truth).abs() - absolute - relative * truth.abs()).max() <= 0


def test_poisson_gradient_is_count_minus_mean():
    x, log_mean, _ = grid([1.0], torch.float64)
    Poisson(log_mean.requires_grad_()).log_prob(x).sum().backward()
    assert torch.allclose(log_mean.grad, x - log_mean.detach().exp())


def test_zinb():
    def formula(n, a, r, gate_logits):
        gate = 1 / (1 + mpmath.exp(-mpmath.mpf(gate_logits)))
        return mpmath.log((gate if n == 0 else 0) + (1 - gate) * mpmath.exp(nb_exact(n, a, r)))

    for dtype, absolute, relative in [(torch.float64, 0, 1e-9), (torch.float32, 1e-4, 1e-5)]:
        x, log_mean, log_dispersion = grid([1e-3, 1.0, 300.0, 1e8], dtype)
        for gate_logits in (-12.0, -1.0, 0.0, 4.0):
            gates = torch.full_like(x, gate_logits)
            value = ZeroInflatedNegativeBinomial(log_mean, log_dispersion, gates).log_prob(x)
            truth = exact(x, log_mean, log_dispersion, gates, formula=formula)
            assert ((value - truth).abs() - absolute - relative * truth.abs()).max() <= 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_corners_are_finite(dtype):
    corners = itertools.product(
        [0, 1, 1_000_000], [-200.0, -30.0, 1e8], [1e-8, 1e8], [-40.0, 40.0]
    )
    points = torch.tensor(list(corners), dtype=dtype)
    x, log_mean = points[:, 0], torch.where(points[:, 1] > 0, points[:, 1].log(), points[:, 1])
    parameters = [log_mean, points[:, 2].log(), points[:, 3]]
    for p in parameters:
        p.requires_grad_()
    for distribution in (
        NegativeBinomial(*parameters[:2]),
        ZeroInflatedNegativeBinomial(*parameters),
        Poisson(parameters[0]),
    ):
        value = distribution.log_prob(x)
        assert value.isfinite().all()
        value.sum().backward()
    assert all(p.grad.isfinite().all() for p in parameters)
