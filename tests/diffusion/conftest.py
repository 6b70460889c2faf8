"""Schedules, and denoisers of Gaussians that are exact."""

import pytest
import torch

from pgm_expr.diffusion import EDM, VE, VPCosine, VPLinear

MEAN, SCALE = 2.0, 0.25


class Exact:
    """E[x_0 | x_t] of Normal(2, 1/4^2) data, and the map of its probability flow."""

    mean, scale = MEAN, SCALE

    def __init__(self, noise):
        self.noise = noise

    def __call__(self, x, t):
        alpha, sigma = self.noise.alpha(t), self.noise.sigma(t)
        gain = alpha * SCALE**2 / (alpha**2 * SCALE**2 + sigma**2)
        return MEAN + gain * (x - alpha * MEAN)

    def spread(self, t):
        return torch.hypot(self.noise.alpha(t) * SCALE, self.noise.sigma(t))

    def move(self, x, t, s):
        """Where x at t is at s: deviations keep their size in standard deviations."""
        alpha_t, alpha_s = self.noise.alpha(t), self.noise.alpha(s)
        return alpha_s * MEAN + self.spread(s) / self.spread(t) * (x - alpha_t * MEAN)


@pytest.fixture
def exact():
    return Exact


@pytest.fixture(params=[VPLinear(), VPCosine(), VE(), EDM()], ids=lambda n: type(n).__name__)
def noise(request):
    return request.param
