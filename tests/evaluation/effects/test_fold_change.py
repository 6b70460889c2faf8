"""Log fold changes: the likelihood is the story's, the posterior NUTS's, the calls true."""

from __future__ import annotations

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Normal
from pyro.infer import MCMC, NUTS
from scipy import sparse, stats

from pgm_expr.evaluation.effects.curves import curves, interpolate
from pgm_expr.evaluation.effects.dispersion import Dispersion, dispersions, estimate
from pgm_expr.evaluation.effects.effect import LEVELS
from pgm_expr.evaluation.effects.fold_change import fold_changes
from pgm_expr.evaluation.effects.noise import shared_noise
from pgm_expr.evaluation.effects.normalise import factors
from pgm_expr.evaluation.effects.profiles import Profiles
from pgm_expr.evaluation.effects.shrinkage import Prior, quantiles, shrink, summarise
from pgm_expr.models import FoldChange


def drawn(seed: int, n: int, genes: int, effect: np.ndarray | float = 0.0, phi: float = 0.5):
    """Counts (2n, G) of two groups of n cells, group 1 changed by `effect` (natural log)."""
    rng = np.random.default_rng(seed)
    base, group = np.exp(rng.normal(0, 1, genes)), np.repeat([0, 1], n)
    size = np.exp(rng.normal(0, 0.3, 2 * n))
    mean = size[:, None] * base * np.exp(np.outer(group, np.broadcast_to(effect, genes)))
    return sparse.csr_array(rng.negative_binomial(1 / phi, 1 / (1 + phi * mean))), size, group


def fixed(genes: int, log_phi: float) -> Dispersion:
    at = torch.full((genes, 1), log_phi, dtype=torch.double)
    return Dispersion(at, torch.zeros_like(at), at[:, 0], at[:, 0], 1.0)


class TestLikelihood:
    def test_rows_lose_nothing_where_sizes_are_equal(self):
        x, _, group = drawn(0, 200, 3)
        profiles = Profiles(x, np.ones(400), group)
        log_phi = torch.full((3, 1), -0.7, dtype=torch.double)
        found = estimate(profiles, log_phi)
        for g in range(3):
            counts, theta = x.toarray()[:, g], np.exp(0.7)
            rate = np.exp(found.intercept[0, g, 0].item() + found.effect[g, 0].item() * group)
            expected = stats.nbinom.logpmf(counts, theta, theta / (theta + rate)).sum()
            ends = stats.nbinom.logpmf(counts, theta, theta / (theta + rate * 1.3)).sum()
            assert len(profiles.rows.number) == 80 and expected > ends

    def test_it_is_that_of_the_story(self):
        """Curves, up to a constant: log p(x | effect) of the Pyro page, intercept summed out."""
        x, size, group = drawn(1, 15, 1, 0.5)
        found = curves(Profiles(x, size, group), fixed(1, -0.7))
        zero = torch.zeros(1, dtype=torch.double)
        story = FoldChange(zero, zero, 1.0)
        given = [torch.as_tensor(v)[:, None] for v in (size, group.astype(float))]
        counts = torch.as_tensor(x.toarray(), dtype=torch.double)

        def log_p(effect: float) -> float:
            sums = []
            for intercept in np.linspace(-4, 4, 400):
                sites = {"effect": effect, "intercept": intercept, "log_phi": -0.7}
                held = {k: torch.tensor([v], dtype=torch.double) for k, v in sites.items()}
                with poutine.trace() as kept, poutine.condition(data=held):
                    story(*given, x=counts)
                kept.trace.compute_log_prob(lambda name, site: name == "x")
                sums.append(kept.trace.nodes["x"]["log_prob_sum"].item())
            return np.logaddexp.reduce(sums)

        ends = torch.tensor([[-0.2, 0.9]], dtype=torch.double)
        ours = interpolate(found, ends)[0]
        assert (ours[1] - ours[0]).item() == pytest.approx(log_p(0.9) - log_p(-0.2), abs=2e-3)

    def test_no_counts_in_a_group_leaves_one_side_open(self):
        x = sparse.csr_array(np.repeat([[0], [2]], 20, axis=0))
        profiles = Profiles(x, np.ones(40), np.repeat([0, 1], 20))
        found = curves(profiles, fixed(1, -3.0))
        far = interpolate(found, torch.tensor([[4.0, 7.0, -1.0]], dtype=torch.double))[0]
        assert abs(far[0] - far[1]) < 0.5 and far[2] < far[0] - 20

    def test_blocks_remove_what_pairs_share(self):
        rng = np.random.default_rng(0)
        donor = rng.normal(0, 2, 6)
        rate = np.exp(np.repeat(donor, 2) + np.tile([0, 0.5], 6) + 5)
        x = sparse.csr_array(rng.poisson(rate)[:, None])
        sides, block = np.tile([0, 1], 6), np.repeat(np.arange(6), 2)
        paired, free = (
            estimate(Profiles(x, np.ones(12), sides, b), torch.full((1, 1), -6.0).double())
            for b in (block, None)
        )
        assert paired.effect.item() == pytest.approx(0.5, abs=0.1)
        assert abs(paired.effect.item() - free.effect.item()) < 0.3


def test_the_posterior_is_that_of_nuts():
    """One gene, all parts of the story: mean and standard deviation of the effect."""
    x, size, group = drawn(3, 12, 1, 0.8)
    nodes = torch.linspace(-4.0, 2.0, 25, dtype=torch.double)[None]
    prior = torch.distributions.StudentT(4, torch.tensor(-0.7).double(), 0.5)
    dispersion = Dispersion(
        nodes, prior.log_prob(nodes), torch.tensor([-0.7]).double(), nodes[:, 0], 0.5
    )
    found = curves(Profiles(x, size, group), dispersion)
    effect = found.effect[0]
    weight = (found.log_likelihood[0] - effect**2 / (2 * 0.6**2)).softmax(-1)
    mean = (weight * effect).sum().item()
    sd = ((weight * effect**2).sum().item() - mean**2) ** 0.5
    one = torch.ones(1, dtype=torch.double)
    story = FoldChange(0 * one, -0.7 * one, 0.5, Normal(0 * one, 0.6 * one))
    pyro.set_rng_seed(0)
    mcmc = MCMC(NUTS(story), num_samples=600, warmup_steps=200, disable_progbar=True)
    given = [torch.as_tensor(v)[:, None] for v in (size, group.astype(float))]
    mcmc.run(*given, x=torch.as_tensor(x.toarray(), dtype=torch.double))
    draws = mcmc.get_samples()["effect"].flatten()
    assert draws.mean().item() == pytest.approx(mean, abs=4 * sd / 200**0.5)
    assert draws.std().item() == pytest.approx(sd, rel=0.2)


class TestDispersion:
    def test_trend_and_spread_are_found(self):
        rng = np.random.default_rng(0)
        log_phi = -1 + 0.3 * rng.normal(size=200)
        mean, theta = np.exp(rng.normal(1.5, 0.7, 200)), np.exp(-log_phi)
        x = rng.negative_binomial(theta, theta / (theta + mean), (120, 200))
        found = dispersions(Profiles(sparse.csr_array(x), np.ones(120), np.arange(120) % 2))
        assert found.trend.mean().item() == pytest.approx(-1, abs=0.1)
        assert 0.15 < found.tau < 0.4
        error = found.mean.numpy() - log_phi
        assert abs(error.mean()) < 0.05 and error.std() < 0.25

    def test_poisson_counts_have_almost_none(self):
        x = np.random.default_rng(0).poisson(20.0, (60, 80))
        found = dispersions(Profiles(sparse.csr_array(x), np.ones(60), np.arange(60) % 2))
        assert found.mean.max() < np.log(0.03)


class TestShrinkage:
    def test_normal_likelihoods_and_prior_have_the_closed_form(self):
        """Beyond the atom at 0: mean and sd of a product of normals."""
        rng = np.random.default_rng(0)
        x, size, group = drawn(5, 100, 400, rng.normal(0, 0.8, 400))
        found = curves(Profiles(x, size, group), fixed(400, -0.7))
        posterior = shrink(found)
        mean, sd, _ = summarise(posterior)
        se = posterior.curves.se  # widened
        sure = (found.se < 0.25) & (posterior.zero < 1e-3)
        share = 0.8**2 / (0.8**2 + se**2)
        assert sure.sum() > 100
        assert (mean - share * found.raw)[sure].abs().mean() < 0.05
        assert (sd / (share.sqrt() * se))[sure].mean().item() == pytest.approx(1, abs=0.1)

    def test_quantiles_jump_at_the_atom(self):
        x, size, group = drawn(6, 30, 100)
        posterior = shrink(curves(Profiles(x, size, group), fixed(100, -0.7)))
        found = quantiles(posterior, LEVELS)
        assert (np.diff(found, axis=0) >= -1e-9).all()
        share = (found == 0).mean(0)
        assert np.abs(share - posterior.zero.numpy()).max() < 0.01

    def test_shared_noise_is_not_taken_for_effects(self):
        """A program that differs by chance moves all genes; without it named, many are called."""
        rng = np.random.default_rng(1)
        program = rng.normal(0, 0.4, 300)
        x, size, group = drawn(2, 60, 300, 1.5 * program)
        found = curves(Profiles(x, size, group), fixed(300, -0.7))
        noise = torch.as_tensor(program)[:, None]
        named, unnamed = shrink(found, noise), shrink(found)
        assert named.shared.abs().item() == pytest.approx(1.5, abs=0.3)
        assert summarise(named)[0].abs().mean() < 0.3 * summarise(unnamed)[0].abs().mean()
        assert isinstance(named.prior, Prior)


def test_shared_noise_has_the_covariance_of_group_means():
    rng = np.random.default_rng(0)
    relative = np.exp(rng.normal(size=(400, 2)) @ rng.normal(0, 0.3, (2, 20)))
    group = np.arange(400) % 2
    for side in (0, 1):
        relative[group == side] /= relative[group == side].mean(0)
    loadings = shared_noise(relative, group).numpy()
    expected = sum(np.cov(relative[group == side].T) / 200 for side in (0, 1))
    assert np.abs(loadings @ loadings.T - expected).max() < 0.01 * expected.max()


def test_factors_leave_the_typical_gene_unchanged():
    totals = np.full((2, 100), 100.0)
    totals[1, :10] = 1000.0
    ratio = factors(totals) * totals.sum(1)
    assert ratio[0] == pytest.approx(ratio[1])


class TestCalls:
    def test_no_effect_no_calls(self):
        """30 null data sets: a call in at most 4 (P = 0.02 at a rate of 0.05)."""
        found = 0
        for seed in range(30):
            x, _, group = drawn(seed, 20, 100)
            found += fold_changes(x, group, range(100)).called().any()
        assert found <= 4

    def test_calls_are_true_and_intervals_hold(self):
        """6 data sets, 30% of 300 genes changed."""
        false, inside, slopes = [], [], []
        for seed in range(6):
            rng = np.random.default_rng(seed)
            truth = np.where(rng.random(300) < 0.7, 0, rng.normal(0, 0.7, 300))
            truth -= np.median(truth)
            x, _, group = drawn(seed, 60, 300, truth)
            effect, real = fold_changes(x, group, range(300)), truth / np.log(2)
            called, (low, high) = effect.called(), effect.interval()
            seen = np.isfinite(effect.mean)
            false.append((called & (real == 0)).sum() / max(called.sum(), 1))
            inside.append(((low <= real) & (real <= high))[seen].mean())
            slopes.append(np.polyfit(effect.mean[seen], real[seen], 1)[0])
        assert np.mean(false) < 0.08 and 0.92 < np.mean(inside) < 0.98
        assert np.mean(slopes) == pytest.approx(1, abs=0.08)

    def test_a_threshold_is_stricter(self):
        x, _, group = drawn(0, 60, 200, np.where(np.arange(200) < 60, 0.3, 0.0))
        any_, beyond = (fold_changes(x, group, range(200), threshold=t) for t in (0.0, 1.0))
        assert (beyond.lfsr >= any_.lfsr - 1e-9).all() and not beyond.called().any()

    def test_a_gene_without_counts_is_unknown(self):
        x, _, group = drawn(0, 20, 30)
        x = x.tolil()
        x[:, 3] = 0
        effect = fold_changes(sparse.csr_array(x), group, range(30))
        assert np.isnan(effect.mean[3]) and effect.lfsr[3] == 1 and not effect.called()[3]
        assert np.isfinite(np.delete(effect.mean, 3)).all()
