"""Guidance at 0 and 1 is exact; more is a sharper group."""

import pytest
import torch

from pgm_expr.diffusion import EDM, Denoiser, dpm_solver_pp_2m, guided, spread_by_weight
from pgm_expr.nn import FiLMNetwork


@pytest.fixture
def denoise():
    torch.manual_seed(0)
    made = Denoiser(FiLMNetwork(3, conditions=2, hidden=16), EDM())
    for parameter in made.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made


@torch.no_grad()
def test_weights_0_and_1_are_bitwise_none_and_the_condition(denoise):
    x, t, c = torch.randn(5, 3), torch.tensor(0.5), torch.randn(5, 2)
    assert torch.equal(guided(denoise, c, 0.0)(x, t), denoise(x, t))
    assert torch.equal(guided(denoise, c, 1.0)(x, t), denoise(x, t, c))
    assert torch.equal(guided(denoise, None, 3.0)(x, t), denoise(x, t))
    assert not torch.equal(denoise(x, t), denoise(x, t, c))


@torch.no_grad()
def test_between_and_beyond_is_a_line(denoise):
    x, t, c = torch.randn(5, 3), torch.tensor(0.5), torch.randn(5, 2)
    none, told = denoise(x, t), denoise(x, t, c)
    for weight in (-1.0, 0.5, 2.5):
        torch.testing.assert_close(
            guided(denoise, c, weight)(x, t), (1 - weight) * none + weight * told
        )


def two_groups(x, t, c=None):
    """E[x_0 | x_t] on EDM's path: groups Normal(+-1, 1/2^2) by c, mixed where c is None."""
    gain = 0.25 / (0.25 + t**2)
    if c is None:
        c = torch.tanh(x / (0.25 + t**2))  # mean label given x_t
    return c + gain * (x - c)


def test_more_guidance_is_less_spread():
    """With exact denoisers, so that the shrinkage is guidance's and not a network's."""
    noise = EDM(least=0.01)

    def draw(weight):
        torch.manual_seed(0)
        start = noise.start(4000, 1)
        return dpm_solver_pp_2m(guided(two_groups, torch.ones(4000, 1), weight), noise, start, 40)

    found = spread_by_weight(draw)
    assert found[1.0] == 1.0 and list(found) == [1.0, 1.5, 2.0, 3.0, 5.0]
    values = list(found.values())
    assert values == sorted(values, reverse=True) and values[-1] < 0.85
    assert abs(draw(1.0).mean() - 1) < 0.05 and abs(draw(1.0).std() - 0.5) < 0.02
