"""log_prob of Gaussians through their exact denoisers."""

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from pgm_expr.diffusion import EDM, VE, VPCosine, VPLinear, log_prob

pytestmark = pytest.mark.usefixtures("float64")

# nothing of a mean of 2 is left at the most noise, nothing of noise in 1/4 at the least
WIDE = [
    VPLinear(high=46.0, least=1e-6),
    VPCosine(most=0.999995, least=2e-6),
    VE(low=5e-4, high=1e5),
    EDM(least=5e-4, most=1e5),
]


@pytest.mark.parametrize("noise", WIDE, ids=lambda n: type(n).__name__)
@pytest.mark.parametrize("size", [1, 40], ids=["exact", "probes"])
def test_an_exact_score_gives_the_normals_density(noise, size, exact):
    """Above 32 dimensions too: probes of a multiple of the identity are exact."""
    x = 2 + torch.linspace(-0.5, 0.5, 5)[:, None].expand(5, size)
    truth = Normal(2.0, 0.25).log_prob(x).sum(-1)
    found = log_prob(exact(noise), noise, x, tolerance=1e-6)
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-4 * size)


def test_it_is_the_density_of_what_the_flow_makes_of_the_start(noise, exact):
    """On the schedules as they come, whose start is about 0 and not about the data's mean."""
    least, most = noise.ends()
    denoise, x = exact(noise), torch.linspace(1.5, 2.5, 5)[:, None]
    moved = denoise.move(x, least, most)
    wide = torch.hypot(noise.alpha(most), noise.sigma(most))
    stretched = (denoise.spread(most) / denoise.spread(least)).log()
    truth = Normal(0.0, wide).log_prob(moved)[:, 0] + stretched
    torch.testing.assert_close(
        log_prob(denoise, noise, x, tolerance=1e-8), truth, rtol=0, atol=1e-6
    )
    torch.testing.assert_close(log_prob(denoise, noise, x), truth, rtol=0, atol=1e-3)
    single = log_prob(denoise, noise, x.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), truth, rtol=0, atol=2e-3)


COVARIANCE = torch.tensor([[1.0, 0.6, 0.0], [0.6, 0.8, -0.3], [0.0, -0.3, 0.5]]).double()


def correlated(noise):
    """E[x_0 | x_t] of Normal(0, COVARIANCE) data: its Jacobian has other entries than a trace."""

    def denoise(x, t):
        alpha, sigma = noise.alpha(t), noise.sigma(t)
        whole = alpha**2 * COVARIANCE + sigma**2 * torch.eye(3)
        return alpha * torch.linalg.solve(whole, x.T).T @ COVARIANCE

    return denoise


def test_a_trace_is_exact_in_few_dimensions():
    noise = EDM(least=1e-3, most=1e4)
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    truth = MultivariateNormal(torch.zeros(3), COVARIANCE).log_prob(x)
    found = log_prob(correlated(noise), noise, x, tolerance=1e-7)
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-4)


def test_probes_are_unbiased():
    torch.manual_seed(0)
    noise = EDM(least=1e-2)
    x = torch.tensor([[0.5, -0.5, 1.0]]).expand(2000, 3)
    truth = log_prob(correlated(noise), noise, x[:1])
    found = log_prob(correlated(noise), noise, x, exact=2, probes=1)
    error = found.std() / 2000**0.5
    assert found.std() > 0.1 and abs(found.mean() - truth) < 4 * error
    fewer = log_prob(correlated(noise), noise, x, exact=2, probes=16).std()
    assert fewer / found.std() == pytest.approx(1 / 4, rel=0.15)
