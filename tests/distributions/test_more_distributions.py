"""Dirichlet-multinomial, rounded Gaussian and detection against scipy, mpmath and sums."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import scipy.stats
import torch
from torch.autograd import gradcheck

from pgm_expr.distributions import (
    Detection,
    DirichletMultinomial,
    NegativeBinomial,
    Poisson,
    RoundedGaussian,
    sparse,
)
from pgm_expr.distributions.dirichlet_multinomial import log_rising, multinomial

LOG_A = torch.tensor([-1.0, 0.5, 2.0, -3.0, 1.0], dtype=torch.double)


@pytest.fixture(autouse=True)
def seeded(float64):
    torch.manual_seed(0)


def compositions(total, parts):
    rows = itertools.product(range(total + 1), repeat=parts)
    return torch.tensor([row for row in rows if sum(row) == total], dtype=torch.double)


class TestDirichletMultinomial:
    @pytest.mark.parametrize("total", [0, 1, 4, 300])
    def test_agrees_with_scipy(self, total):
        x = torch.as_tensor(np.random.default_rng(0).multinomial(total, [0.2] * 5, size=20))
        ours = DirichletMultinomial(LOG_A, torch.tensor(float(total))).log_prob(x.double())
        theirs = scipy.stats.dirichlet_multinomial.logpmf(x.numpy(), LOG_A.exp().numpy(), total)
        assert np.allclose(ours, theirs, rtol=1e-10, atol=1e-10)

    def test_integrates_to_one_and_totals_differ_by_cell(self):
        for total in (3, 7):
            x = compositions(total, 3)
            d = DirichletMultinomial(LOG_A[:3], torch.full((len(x),), float(total)))
            assert d.log_prob(x).exp().sum().item() == pytest.approx(1, rel=1e-12)

    def test_totals_have_no_particle_dimension(self):
        log_a, total = torch.randn(6, 4, 5), torch.tensor([3.0, 10, 50, 0])
        d = DirichletMultinomial(log_a, total)
        assert d.batch_shape == (6, 4) and d.event_shape == (5,)
        x = d.sample((2,))
        assert torch.equal(x.sum(-1), total.expand(2, 6, 4))
        one_by_one = [
            [DirichletMultinomial(log_a[s, n], total[n]).log_prob(x[1, s, n]) for n in range(4)]
            for s in range(6)
        ]
        assert torch.allclose(d.log_prob(x)[1], torch.tensor(one_by_one))

    @pytest.mark.parametrize("log_total", [20.0, 30.0])
    def test_huge_concentrations_are_the_multinomial(self, log_total):
        share, n = LOG_A.softmax(-1), 500
        x = torch.as_tensor(np.random.default_rng(0).multinomial(n, share.numpy(), size=20))
        d = DirichletMultinomial(share.log() + log_total, torch.tensor(float(n)))
        theirs = scipy.stats.multinomial.logpmf(x.numpy(), n, share.numpy())
        close = n**2 / math.exp(log_total)  # the order of the difference
        assert np.allclose(d.log_prob(x.double()), theirs, atol=close + 1e-9, rtol=0)

    @pytest.mark.parametrize("a", [1e-12, 1e-3, 0.7, 30.0, 1e5, 1e12])
    @pytest.mark.parametrize("x", [0, 1, 7, 10_000])
    def test_rising_factorial_agrees_with_mpmath(self, a, x):
        with mpmath.workdps(50):
            exact = float(mpmath.log(mpmath.rf(mpmath.mpf(a), x)))
        ours = log_rising(torch.tensor(a), torch.tensor(float(x))).item()
        assert ours == pytest.approx(exact, rel=1e-11, abs=1e-11)

    def test_gradient(self):
        log_a, total = torch.randn(4, 5).requires_grad_(), torch.tensor([3.0, 10, 50, 0])
        x = DirichletMultinomial(log_a, total).sample()
        assert gradcheck(lambda a: DirichletMultinomial(a, total).log_prob(x), log_a)

    @pytest.mark.parametrize("extreme", [-1e4, -300.0, 30.0])
    def test_extremes_stay_finite_in_float32(self, extreme):
        log_a = torch.tensor([0.0, extreme, 1.0], dtype=torch.float32).requires_grad_()
        d = DirichletMultinomial(log_a, torch.tensor(60.0))
        log_prob = d.log_prob(torch.tensor([10.0, 30.0, 20.0]))
        log_prob.backward()
        assert log_prob.isfinite() and log_a.grad.isfinite().all()
        assert d.sample().sum() == 60 and d.mean.isfinite().all()

    def test_covariance_of_draws(self):
        """Cov = n (n + A) / (1 + A) (diag p - p p^T); five standard errors, rate 2e-5."""
        n, draws = 30.0, 40_000
        d = DirichletMultinomial(LOG_A, torch.tensor(n))
        share, whole = LOG_A.softmax(-1), LOG_A.exp().sum()
        stated = n * (n + whole) / (1 + whole) * (share.diag() - torch.outer(share, share))
        assert torch.allclose(d.variance, stated.diagonal())
        centred = d.sample((draws,)) - d.mean
        products = centred[:, :, None] * centred[:, None, :]
        assert ((products.mean(0) - stated).abs() < 5 * products.std(0) / draws**0.5).all()

    def test_validation_sees_a_wrong_total(self):
        d = DirichletMultinomial(LOG_A, torch.tensor(3.0), validate_args=True)
        assert d.log_prob(torch.tensor([1.0, 1, 1, 0, 0])).isfinite()
        with pytest.raises(ValueError, match="add up"):
            d.expand((2,)).log_prob(torch.tensor([1.0, 1, 1, 0, 1]))

    @pytest.mark.parametrize("genes", [1, 2, 5, 8])
    def test_tree_of_binomials_draws_a_multinomial(self, genes):
        """Means within five standard errors; a share of 0 gets no count."""
        share = torch.rand(genes)
        share[1:2] = 0
        share, total = share / share.sum(), torch.tensor([40.0, 7.0]).expand(20_000, 2)
        x = multinomial(total, share.expand(20_000, 2, genes))
        assert torch.equal(x.sum(-1), total) and (x[..., 1:2] == 0).all()
        expected = total[0, :, None] * share
        error = (expected * (1 - share) / len(x)).sqrt()
        assert ((x.mean(0) - expected).abs() <= 5 * error + 1e-12).all()


def rounded(loc=4.0, scale=0.8, unit=12.0):
    return RoundedGaussian(*(torch.tensor(float(v)) for v in (loc, scale, unit)))


class TestRoundedGaussian:
    @pytest.mark.parametrize(
        "loc, scale, unit", [(4.0, 0.8, 12.0), (0.3, 1.5, 2.0), (3, 0.1, 0.5)]
    )
    def test_agrees_with_scipy_and_sums_to_one(self, loc, scale, unit):
        x = torch.arange(200_000.0)
        log_prob = rounded(loc, scale, unit).log_prob(x)
        assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-6)
        edges = np.log1p(unit * (x.numpy()[:100] + 0.5))
        cdf = scipy.stats.norm.cdf(edges, loc, scale)
        assert np.allclose(log_prob[:100].exp(), np.diff(cdf, prepend=0), rtol=1e-8, atol=1e-13)

    @pytest.mark.parametrize("loc, scale", [(4.0, 0.8), (-30.0, 0.5), (40.0, 0.5), (9.2, 1e-3)])
    @pytest.mark.parametrize("x", [0, 1, 2, 50, 813, 10**6])
    def test_tails_agree_with_mpmath(self, loc, scale, x):
        unit = 12.0
        d = rounded(loc, scale, unit)
        with mpmath.workdps(60):

            def z(count):
                return (mpmath.log1p(unit * mpmath.mpf(count)) - loc) / scale

            def above(t):
                return mpmath.erfc(t / mpmath.sqrt(2)) / 2

            if x == 0:
                mass = above(-z(0.5))
            else:
                low, high = z(x - 0.5), z(x + 0.5)
                mass = above(low) - above(high) if low > 0 else above(-high) - above(-low)
            exact = float(mpmath.log(mass))
        assert d.log_prob(torch.tensor(float(x))).item() == pytest.approx(exact, rel=1e-9)

    def test_gradient(self):
        """Of both formulas, on both sides of the mean, and at 0."""
        x = torch.tensor([0.0, 1, 4, 30, 2000, 3e5])
        inputs = [(4 + torch.randn(6)), 0.5 + torch.rand(6), 5 + 9 * torch.rand(6)]
        inputs = [i.requires_grad_() for i in inputs]
        assert gradcheck(lambda *p: RoundedGaussian(*p).log_prob(x), inputs)

    def test_finite_everywhere_in_float32(self):
        x = torch.tensor([0.0, 1, 10, 1e3, 1e6])[:, None].float()
        loc = torch.linspace(-50, 50, 41).float().requires_grad_()
        scale = torch.tensor([1e-3, 0.1, 1, 10])[:, None, None].float().requires_grad_()
        log_prob = RoundedGaussian(loc, scale, torch.tensor(9.0).float()).log_prob(x)
        log_prob.sum().backward()
        assert log_prob.dtype == torch.float32 and log_prob.isfinite().all()
        assert loc.grad.isfinite().all() and scale.grad.isfinite().all()

    @pytest.mark.parametrize(
        "loc, scale, unit",
        [(4.0, 0.5, 12.0), (0.5, 1.2, 3.0), (7.0, 0.3, 2.0), (5.9, 0.2, 10), (5.9, 0.05, 10)],
    )
    def test_moments_are_sums_over_the_pmf(self, loc, scale, unit):
        x, d = torch.arange(500_000.0), rounded(loc, scale, unit)
        p = d.log_prob(x).exp()
        mean = (p * x).sum()
        assert d.mean.item() == pytest.approx(mean.item(), rel=1e-5)
        assert d.variance.item() == pytest.approx((p * (x - mean) ** 2).sum().item(), rel=1e-4)

    def test_draws_follow_the_pmf(self):
        """Chi-squared over the counts below 20: failure rate 1e-5."""
        d, n = rounded(loc=3.5, unit=6.0), 100_000
        seen = d.sample((n,)).clamp(max=20).long().bincount(minlength=21).double()
        p = d.log_prob(torch.arange(20.0)).exp()
        expected = n * torch.cat([p, 1 - p.sum(0, keepdim=True)])
        chi2 = ((seen - expected) ** 2 / expected).sum().item()
        assert scipy.stats.chi2.sf(chi2, 20) > 1e-5

    def test_expand(self):
        d = rounded().expand((3, 4))
        assert d.batch_shape == (3, 4) and d.sample().shape == (3, 4) and d.mean.shape == (3, 4)
        assert torch.equal(d.log_prob(torch.ones(4)), rounded().log_prob(torch.ones(3, 4)))


@pytest.mark.parametrize("kind", ["DirichletMultinomial", "RoundedGaussian"])
def test_dense_path_of_an_accelerator_agrees(monkeypatch, kind):
    loc, total = torch.randn(4, 5).requires_grad_(), torch.tensor([3.0, 10, 50, 0])
    d = DirichletMultinomial(loc, total)
    if kind == "RoundedGaussian":
        d = RoundedGaussian(loc, torch.tensor(0.7), torch.tensor(4.0))
    x = d.sample()
    log_prob = d.log_prob(x)
    (gradient,) = torch.autograd.grad(log_prob.sum(), loc)
    monkeypatch.setattr(sparse, "everywhere", lambda x: True)
    dense = d.log_prob(x)
    (dense_gradient,) = torch.autograd.grad(dense.sum(), loc)
    assert (x == 0).any() and (x > 0).any()
    assert torch.allclose(dense, log_prob, rtol=1e-12)
    assert torch.allclose(dense_gradient, gradient, rtol=1e-12)


class TestDetection:
    LOG_MEANS = torch.tensor([-30.0, -6.5, -5.9, -1.0, -0.4, -0.3, 0.5, 3.0], dtype=torch.double)

    def test_is_a_poisson_above_zero(self):
        mean = self.LOG_MEANS.exp().numpy()
        d = Detection(self.LOG_MEANS)
        seen, missed = d.log_prob(torch.tensor(7.0)), d.log_prob(torch.tensor(0.0))
        assert np.allclose(seen, np.log(-np.expm1(-mean)), rtol=1e-9)
        assert np.allclose(missed, scipy.stats.poisson.logpmf(0, mean))
        assert np.allclose(d.mean, scipy.stats.poisson.sf(0, mean))
        assert np.allclose(d.variance, d.mean * (1 - d.mean))

    def test_gradient(self):
        for x in (torch.tensor(0.0), torch.tensor(2.0)):
            log_mean = self.LOG_MEANS.clone().requires_grad_()
            assert gradcheck(lambda m, x=x: Detection(m).log_prob(x), log_mean)

    def test_stable_in_float32(self):
        log_mean = torch.tensor([-1000.0, -100, -90, 10, 18]).float().requires_grad_()
        seen = Detection(log_mean).log_prob(torch.ones(5))
        seen.sum().backward()
        expected = torch.tensor([-1000.0, -100, -90, 0, 0]).float()
        assert torch.allclose(seen, expected) and torch.equal(
            log_mean.grad, (log_mean < 0).float()
        )

    def test_draws_are_zero_or_one_at_the_stated_rate(self):
        d = Detection(self.LOG_MEANS[1:]).expand((2, 7))
        x = d.sample((50_000,))
        assert x.shape == (50_000, 2, 7) and ((x == 0) | (x == 1)).all()
        assert ((x.mean(0) - d.mean).abs() < 5 * (d.variance / len(x)).sqrt()).all()


@pytest.mark.parametrize("kind", [NegativeBinomial, Poisson])
def test_parameters_of_any_memory_layout(kind):
    """A transposed decoder output has the log-probability and gradient of its copy."""
    torch.manual_seed(0)
    log_mean = torch.randn(7, 5).T.requires_grad_()  # (5, 7), columns side by side
    more = (torch.randn(7, 5).T,) if kind is NegativeBinomial else ()
    x = torch.poisson(3 * torch.ones(5, 7))
    apart = kind(log_mean, *more).log_prob(x)
    copied = log_mean.detach().contiguous().requires_grad_()
    together = kind(copied, *(each.contiguous() for each in more)).log_prob(x)
    assert torch.allclose(apart, together)
    slopes = [
        torch.autograd.grad(v.sum(), m)[0] for v, m in ((apart, log_mean), (together, copied))
    ]
    assert torch.allclose(*slopes)
