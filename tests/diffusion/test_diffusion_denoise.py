"""What a network's answer means, what it is trained for, and what no condition is."""

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from pgm_expr.diffusion import (
    EDM,
    Denoiser,
    VPLinear,
    clean,
    epsilon,
    karras,
    karras_weight,
    score_weight,
    velocity,
)
from pgm_expr.diffusion.denoise import LEVEL
from pgm_expr.nn import FiLMNetwork

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def faded(noise):
    """x0, eps, alpha, sigma and x of 200 cells, each at a time of its own."""
    torch.manual_seed(0)
    x0, eps, t = torch.randn(200, 3), torch.randn(200, 3), noise.draw(200)[:, None]
    alpha, sigma = noise.alpha(t), noise.sigma(t)
    return x0, eps, alpha, sigma, alpha * x0 + sigma * eps


def test_four_parameterisations_say_the_same(faded):
    x0, eps, alpha, sigma, x = faded
    r = torch.hypot(alpha, sigma)
    told = {
        epsilon: eps,
        clean: x0,
        velocity: alpha * eps - sigma * x0,
        karras: (x0 - alpha * x / r**2) * r / sigma,
    }
    for read, answer in told.items():
        torch.testing.assert_close(read(answer, x, alpha, sigma), x0, rtol=1e-8, atol=1e-8)


def test_karras_target_is_minus_velocity_on_a_preserving_path():
    t = torch.linspace(0.01, 1, 9)[:, None]
    alpha, sigma = VPLinear().alpha(t), VPLinear().sigma(t)
    told, x = torch.randn(9, 3), torch.randn(9, 3)
    torch.testing.assert_close(karras(told, x, alpha, sigma), velocity(-told, x, alpha, sigma))


@pytest.mark.parametrize("level", [0.01, 0.5, 10.0])
def test_karras_target_has_standard_deviation_1_at_every_level(level):
    torch.manual_seed(0)
    x0, eps = torch.randn(2, 100_000, 1)
    sigma, x = torch.tensor(level), x0 + level * eps
    r = (1 + sigma**2).sqrt()
    assert abs(((x0 - x / r**2) * r / sigma).std() - 1) < 0.01


def test_weights_are_those_of_score_matching(faded):
    """lambda = sigma^2 on scores, and EDM's (sigma^2 + 1) / sigma^2 where alpha is 1."""
    x0, _, alpha, sigma, x = faded
    answer = x0 + torch.randn_like(x0)
    score, truth = ((alpha * each - x) / sigma**2 for each in (answer, x0))
    weighted = score_weight(alpha, sigma) * (answer - x0) ** 2
    torch.testing.assert_close(weighted, sigma**2 * (score - truth) ** 2, rtol=1e-6, atol=0)
    sigma = torch.tensor([0.1, 3.0])
    torch.testing.assert_close(karras_weight(torch.ones(2), sigma), (sigma**2 + 1) / sigma**2)


class Oracle(nn.Module):
    """The x0 of Normal(2, 1/4^2) data on EDM's path, from what a network sees."""

    def forward(self, x, level, c=None, drop=None):
        sigma = (LEVEL * level).exp().reshape(-1, 1)
        x = x * torch.hypot(torch.ones(()), sigma)
        return 2 + 0.25**2 / (0.25**2 + sigma**2) * (x - 2)


def test_score_is_the_gradient_of_the_faded_log_density():
    denoise = Denoiser(Oracle(), EDM(), read=clean)
    t, x = torch.tensor([0.01, 0.3, 5.0]), torch.randn(3, 2).requires_grad_()
    log_p = Normal(2.0, (0.25**2 + t**2).sqrt()[:, None]).log_prob(x).sum()
    (truth,) = torch.autograd.grad(log_p, x)
    torch.testing.assert_close(denoise.score(x, t), truth)
    torch.testing.assert_close(denoise.epsilon(x, t), -t[:, None] * truth)


def test_loss_is_the_same_whatever_the_network_tells():
    """An exact answer through another parameterisation is as exact; sums over dimensions."""

    class Noisy(Oracle):
        def forward(self, x, level, c=None, drop=None):
            sigma = (LEVEL * level).exp().reshape(-1, 1)
            return (x * torch.hypot(torch.ones(()), sigma) - super().forward(x, level)) / sigma

    found = []
    for network, read in ((Oracle(), clean), (Noisy(), epsilon)):
        torch.manual_seed(0)
        z = 2 + 0.25 * torch.randn(20_000, 3)
        found.append(Denoiser(network, EDM(), read=read).loss(z))
    torch.testing.assert_close(*found)
    t = EDM().draw(200_000).double()
    each = karras_weight(torch.ones(()), t) * 0.25**2 * t**2 / (0.25**2 + t**2)
    assert found[0].shape == (20_000,)
    assert found[0].mean().item() == pytest.approx(3 * each.mean().item(), rel=0.03)


@pytest.fixture
def denoise():
    torch.manual_seed(0)
    made = Denoiser(FiLMNetwork(3, conditions=2, hidden=16), EDM(), dropout=0.3)
    for parameter in made.parameters():  # those that start at zero too
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made


def test_a_missing_condition_is_a_token_not_zeros(denoise):
    x, t = torch.randn(5, 3), torch.tensor(0.5)
    none, zeros = denoise(x, t), denoise(x, t, torch.zeros(5, 2))
    assert (none - zeros).abs().min() > 1e-4
    withheld = denoise(x, t, torch.randn(5, 2), torch.ones(5, dtype=bool))
    torch.testing.assert_close(withheld, none, rtol=0, atol=1e-13)


def test_conditions_are_withheld_at_the_rate_asked(denoise):
    asked = []
    denoise.network.register_forward_hook(lambda _, given, __: asked.append(given[3]))
    denoise.loss(torch.randn(20_000, 3), torch.randn(20_000, 2)).mean().backward()
    assert abs(asked[0].double().mean() - 0.3) < 0.015
    for name, parameter in denoise.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_one_time_serves_all_cells(denoise):
    x = torch.randn(4, 3)
    torch.testing.assert_close(denoise(x, torch.tensor(0.3)), denoise(x, torch.full((4,), 0.3)))


def test_levels_are_told_apart(noise):
    """Embedded levels of a schedule span 8 directions or more: PITFALLS of unscaled times."""
    level = -noise.log_snr(noise.times(200)) / 2 / LEVEL
    waves = FiLMNetwork(1).time.waves(level)
    values = torch.linalg.svdvals(waves - waves.mean(0))
    assert (values > 0.01 * values[0]).sum() >= 8
