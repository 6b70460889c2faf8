"""Each likelihood and link against a closed form, its limits, and genes with two modes."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from pgm_expr import distributions
from pgm_expr.parts import (
    Composition,
    Detection,
    DirichletMultinomial,
    Gaussian,
    GaussianMixture,
    LowRankGaussianMixture,
    NegativeBinomial,
    NegativeBinomialByBatch,
    NegativeBinomialByCell,
    NegativeBinomialMixture,
    PoissonCounts,
    Rate,
    RoundedGaussian,
    ZeroInflatedNB,
)

GENES, CELLS = 5, 7
AVERAGE = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05], dtype=torch.double)


@pytest.fixture(autouse=True)
def seeded(float64):
    torch.manual_seed(0)


@pytest.fixture
def eta():
    return torch.randn(CELLS, GENES)


@pytest.fixture
def library():
    return torch.linspace(20, 300, CELLS).round()[:, None]


@pytest.fixture
def x(library):
    return torch.poisson(library * AVERAGE)


def scattered(part):
    for parameter in part.parameters():
        parameter.data += 0.5 * torch.randn_like(parameter)
    return part


def arrays(*tensors):
    return [tensor.detach().numpy() for tensor in tensors]


class TestLinks:
    def test_a_rate_is_free_of_the_other_genes(self, eta, library):
        link = Rate(GENES, AVERAGE)
        mean = link(eta, library).exp()
        assert torch.allclose(mean, library * AVERAGE * eta.exp())
        assert torch.allclose(link(eta, 2 * library).exp(), 2 * mean)
        raised = eta + torch.tensor([math.log(2), 0, 0, 0, 0])
        doubled = torch.tensor([2.0, 1, 1, 1, 1])
        assert torch.allclose(link(raised, library).exp(), doubled * mean)

    def test_a_composition_adds_up_to_the_library(self, eta, library):
        mean = Composition(GENES, AVERAGE)(eta + 3, library).exp()
        assert torch.allclose(mean.sum(-1, keepdim=True), library)

    @pytest.mark.parametrize(
        "kind",
        [NegativeBinomial, NegativeBinomialByCell, NegativeBinomialMixture, PoissonCounts],
    )
    def test_a_likelihood_takes_another_link(self, kind, eta, library):
        part = kind(GENES, link=Rate(GENES, AVERAGE))
        assert torch.allclose(part(eta, library).mean, library * AVERAGE * eta.exp())

    def test_the_link_is_saved_as_before(self):
        for kind in (NegativeBinomial, ZeroInflatedNB, PoissonCounts, Detection):
            assert "log_mean.log_average" in kind(GENES, AVERAGE).state_dict()


class TestNegativeBinomials:
    def test_a_batch_picks_its_row(self, eta, library, x):
        part, batch = scattered(NegativeBinomialByBatch(GENES, 3, AVERAGE)), torch.arange(7) % 3
        log_prob = part(eta, library, batch).log_prob(x)
        for b in range(3):
            single = NegativeBinomial(GENES, AVERAGE)
            single.log_dispersion.data.copy_(part.log_dispersion[b])
            rows = batch == b
            assert torch.allclose(log_prob[rows], single(eta, library).log_prob(x)[rows])

    def test_by_cell_starts_as_one_dispersion_a_gene(self, eta, library, x):
        part, single = NegativeBinomialByCell(GENES, AVERAGE), NegativeBinomial(GENES, AVERAGE)
        plain = single(eta, library).log_prob(x)
        assert torch.allclose(part(eta, library).log_prob(x), plain, atol=0.02)
        part.change[-1].weight.data.zero_()
        assert torch.allclose(part(eta, library).log_prob(x), plain, rtol=1e-12)

    def test_by_cell_follows_eta(self, eta, library):
        """Variance m + m^2 / theta_ng with the network written out."""
        part = scattered(NegativeBinomialByCell(GENES, AVERAGE))
        first, _, last = part.change
        hidden = (eta @ first.weight.T + first.bias).tanh()
        theta = (part.log_dispersion + hidden @ last.weight.T).exp()
        d = part(eta, library)
        assert torch.allclose(d.variance, d.mean + d.mean**2 / theta)

    @pytest.mark.parametrize("modes", [1, 2, 3])
    def test_mixture_is_scipys_and_keeps_the_mean(self, modes, eta, library, x):
        part = scattered(NegativeBinomialMixture(GENES, AVERAGE, modes))
        d = part(eta, library)
        mean = Composition(GENES, AVERAGE)(eta, library).exp()
        assert torch.allclose(d.mean, mean)
        weights, raw = arrays(part.logits.softmax(0), part.shifts.exp())
        (theta,) = arrays(part.log_dispersion.exp())
        gain = raw / (weights * raw).sum(0)
        pmf = sum(
            w * scipy.stats.nbinom.pmf(x.numpy(), t, t / (t + g * mean.numpy()))
            for w, g, t in zip(weights, gain, theta, strict=True)
        )
        assert np.allclose(d.log_prob(x).detach(), np.log(pmf).sum(-1))

    def test_mixture_without_shifts_is_one_mode(self, eta, library, x):
        part = NegativeBinomialMixture(GENES, AVERAGE)
        assert (part.shifts[0] < part.shifts[1]).all()  # else the modes never part
        part.shifts.data.zero_()
        expected = NegativeBinomial(GENES, AVERAGE)(eta, library).log_prob(x)
        assert torch.allclose(part(eta, library).log_prob(x), expected, rtol=1e-12)


class TestOtherCounts:
    def test_detection_is_a_poisson_above_zero(self, eta, library, x):
        eta, mean = eta - 3, PoissonCounts(GENES, link=Rate(GENES, AVERAGE))(eta - 3, library).mean
        d = Detection(GENES, link=Rate(GENES, AVERAGE))(eta, library)
        of_counts = np.where(
            x > 0, scipy.stats.poisson.logsf(0, mean), scipy.stats.poisson.logpmf(0, mean)
        )
        assert np.allclose(d.log_prob(x), of_counts.sum(-1))
        assert torch.equal(d.log_prob(x), d.log_prob((x > 0).double()))

    def test_dirichlet_multinomial_is_scipys(self, eta, library):
        part = DirichletMultinomial(GENES, AVERAGE)
        d, share = part(eta, library), Composition(GENES, AVERAGE)(eta, torch.ones(7, 1)).exp()
        x = d.sample()
        assert torch.equal(x.sum(-1, keepdim=True), library)
        assert torch.allclose(d.mean, library * share)
        theirs = [
            scipy.stats.dirichlet_multinomial.logpmf(row, 1e3 * p / p.sum(), int(row.sum()))
            for row, p in zip(x.numpy(), share.numpy(), strict=True)
        ]
        assert np.allclose(d.log_prob(x).detach(), theirs)

    def test_huge_concentration_is_multinomial(self, eta, library):
        part = DirichletMultinomial(GENES, AVERAGE)
        part.log_concentration.data.fill_(25.0)
        d, share = part(eta, library), Composition(GENES, AVERAGE)(eta, torch.ones(7, 1)).exp()
        x = d.sample()
        theirs = scipy.stats.multinomial.logpmf(x.numpy(), library[:, 0].numpy(), share.numpy())
        assert np.allclose(d.log_prob(x).detach(), theirs, atol=1e-5)

    def test_rounded_gaussian_is_scipys(self, eta, library, x):
        part = scattered(RoundedGaussian(GENES, AVERAGE))
        loc = np.log1p(1e4 * AVERAGE.numpy()) + eta.numpy()
        counts, size, scale = arrays(x, library, part.log_scale.exp())
        high = np.log1p(1e4 * (counts + 0.5) / size)
        low = np.log1p(1e4 * np.clip(counts - 0.5, 0, None) / size)
        below = np.where(counts > 0, scipy.stats.norm.cdf(low, loc, scale), 0)
        mass = scipy.stats.norm.cdf(high, loc, scale) - below
        ours = part(eta, library).log_prob(x).detach()
        assert np.allclose(ours, np.log(mass).sum(-1), rtol=1e-6)


class TestValues:
    def test_gaussian_mixture_is_scipys_and_keeps_the_mean(self, eta, library):
        part, x = scattered(GaussianMixture(GENES, 3)), torch.randn(CELLS, GENES)
        weights, raw, scales = arrays(part.logits.softmax(0), part.shifts, part.log_scale.exp())
        shifts = raw - (weights * raw).sum(0)
        pdf = sum(
            w * scipy.stats.norm.pdf(x.numpy(), eta.numpy() + shift, scale)
            for w, shift, scale in zip(weights, shifts, scales, strict=True)
        )
        d = part(eta, library)
        assert np.allclose(d.log_prob(x).detach(), np.log(pdf).sum(-1))
        assert torch.allclose(d.mean, eta)

    def test_one_mode_is_gaussian(self, eta, library):
        x, expected = torch.randn(CELLS, GENES), Gaussian(GENES)
        log_prob = expected(eta, library).log_prob(x)
        theirs = scipy.stats.norm.logpdf(x, eta, 1.0).sum(-1)
        assert np.allclose(log_prob.detach(), theirs)
        assert torch.allclose(GaussianMixture(GENES, 1)(eta, library).log_prob(x), log_prob)
        whole = LowRankGaussianMixture(GENES, 1, factors=0)(eta, library)
        assert torch.allclose(whole.log_prob(x), log_prob)

    @pytest.mark.parametrize("factors", [0, 1, 3])
    def test_low_rank_is_the_dense_normal(self, factors, eta, library):
        part, x = scattered(LowRankGaussianMixture(GENES, 2, factors)), torch.randn(CELLS, GENES)
        weights = part.logits.softmax(0)
        shifts = part.shifts - weights @ part.shifts
        covariance = torch.diag_embed((2 * part.log_scale).exp())
        if factors:
            covariance = covariance + part.factors @ part.factors.mT
        dense = [
            weights[k].log()
            + torch.distributions.MultivariateNormal(eta + shifts[k], covariance[k]).log_prob(x)
            for k in range(2)
        ]
        d = part(eta, library)
        assert torch.allclose(d.log_prob(x), torch.logaddexp(*dense))
        assert torch.allclose(d.mean, eta)


def fitted(part, x, library, steps=250):
    """The part with eta = 0, fitted by maximum likelihood; its own parameters are all there is."""
    optimizer = torch.optim.Adam(part.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        (-part(torch.zeros_like(x), library).log_prob(x).mean()).backward()
        optimizer.step()
    return part


def gain(better, worse, x, library):
    """Held-out gain of a cell, in its own standard errors."""
    with torch.no_grad():
        eta = torch.zeros_like(x)
        gains = better(eta, library).log_prob(x) - worse(eta, library).log_prob(x)
    return gains.mean() / (gains.std() / len(gains) ** 0.5)


class TestRecovery:
    """Each gene is low in most cells and high in the others, independently."""

    HIGH = torch.tensor([0.5, 0.3, 0.2], dtype=torch.double)  # share of cells in the high mode

    def on(self, cells):
        return torch.rand(cells, 3) < self.HIGH

    def test_nb_mixture_finds_both_modes(self):
        low, high, theta, library = 2.0, 40.0, 4.0, torch.ones(1500, 1)
        mean = torch.where(self.on(1500), high, low)
        x = distributions.NegativeBinomial(mean.log(), torch.tensor(theta).log()).sample()
        overall, library = x.mean(0), x.mean(0).sum() * library
        average = overall / overall.sum()
        two = fitted(NegativeBinomialMixture(3, average), x[:1000], library[:1000])
        one = fitted(NegativeBinomial(3, average), x[:1000], library[:1000])
        assert gain(two, one, x[1000:], library[1000:]) > 2
        components = two(torch.zeros(1, 3), library[:1]).base_dist.component_distribution
        means = components.mean[0].sort(-1).values.detach()  # (G, K)
        assert torch.allclose(means, torch.tensor([low, high]).expand(3, 2), rtol=0.25)
        weights = two.logits.softmax(0).gather(0, two.shifts.argmax(0, keepdim=True))[0]
        assert torch.allclose(weights, self.HIGH, atol=0.06)

    def test_gaussian_mixture_finds_both_modes(self):
        centre = 3 * self.HIGH  # the mean of the two modes 0 and 3
        x = 3 * self.on(1500) + 0.5 * torch.randn(1500, 3) - centre
        library = torch.ones(1500, 1)
        two = fitted(GaussianMixture(3), x[:1000], library[:1000])
        one = fitted(Gaussian(3), x[:1000], library[:1000])
        assert gain(two, one, x[1000:], library[1000:]) > 2
        weights, shifts = two.logits.softmax(0), two.shifts
        assert torch.allclose(shifts[1] - shifts[0], torch.full((3,), 3.0), atol=0.15)
        assert torch.allclose(weights[1], self.HIGH, atol=0.06)
        assert torch.allclose(two.log_scale.exp(), torch.full((2, 3), 0.5), atol=0.08)

    def test_low_rank_mixture_finds_two_kinds_of_cells(self):
        """All genes change together: modes of whole profiles beat modes of single genes."""
        kind = (torch.rand(1500, 1) < 0.4).double()
        x = (kind - 0.4) * torch.tensor([3.0, -2.0, 2.5]) + 0.5 * torch.randn(1500, 3)
        library = torch.ones(1500, 1)
        whole = fitted(LowRankGaussianMixture(3, factors=1), x[:1000], library[:1000])
        single = fitted(GaussianMixture(3), x[:1000], library[:1000])
        assert gain(whole, single, x[1000:], library[1000:]) > 2
        assert torch.allclose(whole.logits.softmax(0).min(), torch.tensor(0.4), atol=0.06)
