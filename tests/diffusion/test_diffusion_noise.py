"""What schedules say of themselves is what autograd finds."""

import mpmath
import pytest
import torch

from pgm_expr.diffusion import EDM, VE, VPCosine, VPLinear

pytestmark = pytest.mark.usefixtures("float64")


def inside(noise, n=50):
    """Times between the ends, where they can be told from the ends."""
    low, high = noise.log_snr(noise.ends()).flip(0).tolist()
    return noise.time(torch.linspace(low, high, n)[1:-1])


def slope(f, t):
    t = t.clone().requires_grad_()
    return torch.autograd.grad(f(t).sum(), t)[0]


@pytest.mark.parametrize("noise", [VPLinear(), VPCosine()])
def test_beta_is_the_rate_at_which_alpha_bar_falls(noise):
    t = inside(noise)
    torch.testing.assert_close(-slope(noise.log_alpha_bar, t), noise.beta(t), rtol=1e-10, atol=0)
    torch.testing.assert_close(noise.alpha(t) ** 2, noise.log_alpha_bar(t).exp())
    torch.testing.assert_close(noise.alpha(t) ** 2 + noise.sigma(t) ** 2, torch.ones_like(t))


def test_drift_and_diffusion_give_alpha_and_sigma(noise):
    t = inside(noise)
    f = slope(lambda t: noise.alpha(t).log() + 0 * t, t)
    g2 = slope(lambda t: noise.sigma(t) ** 2, t) - 2 * f * noise.sigma(t) ** 2
    torch.testing.assert_close(noise.drift(t), f, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(noise.diffusion(t), g2, rtol=1e-9, atol=0)


def test_time_inverts_the_log_snr(noise):
    t = inside(noise)
    torch.testing.assert_close(noise.time(noise.log_snr(t)), t, rtol=1e-9, atol=0)
    assert (slope(noise.log_snr, t) < 0).all()


@pytest.mark.parametrize("noise", [VPLinear(), VPCosine()])
@pytest.mark.parametrize("dtype, within", [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_little_noise_keeps_its_digits(noise, dtype, within):
    """1 - alpha_bar is never found as a difference of numbers near 1."""
    t = torch.tensor([1e-7, 1e-5, 1e-3], dtype=dtype)
    with mpmath.workdps(40):
        exactly = [float(truth(noise, mpmath.mpf(value))) for value in t.tolist()]
    torch.testing.assert_close(
        noise.sigma(t), torch.tensor(exactly, dtype=dtype), rtol=within, atol=0
    )


def truth(noise, t):
    """sigma, in 40 digits."""
    if isinstance(noise, VPLinear):
        low, high = mpmath.mpf(noise.low), mpmath.mpf(noise.high)
        return mpmath.sqrt(1 - mpmath.exp(-(low * t + (high - low) * t**2 / 2)))
    offset = mpmath.mpf(noise.offset)
    first, now = (mpmath.cos(mpmath.pi / 2 * (s + offset) / (1 + offset)) for s in (0, t))
    return mpmath.sqrt(1 - (now / first) ** 2)


def test_samplers_ask_from_the_most_noise_to_the_least(noise):
    times = noise.times(20)
    assert len(times) == 20 and (times.diff() < 0).all()
    torch.testing.assert_close(times[[-1, 0]], noise.ends(), rtol=1e-9, atol=1e-12)
    if not isinstance(noise, EDM):
        gaps = noise.log_snr(times).diff()
        torch.testing.assert_close(gaps, gaps.mean().expand(19), rtol=1e-6, atol=0)


def test_edms_grid_is_the_papers():
    """Karras et al., equation 5, with sigma_min .002, sigma_max 80 and rho 7."""
    i = torch.arange(18.0)
    grid = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close(EDM().times(18), grid)


def test_start_is_as_wide_as_faded_data(noise):
    torch.manual_seed(0)
    wide = torch.hypot(noise.alpha(noise.ends()[1]), noise.sigma(noise.ends()[1]))
    start = noise.start(40_000, 1)
    assert abs(start.std() / wide - 1) < 0.02 and abs(start.mean() / wide) < 0.025


def test_exploding_noise_starts_wide_not_at_one():
    torch.manual_seed(0)
    assert VE().start(1000, 1).std() > 40 and EDM().start(1000, 1).std() > 60


def test_no_time_without_noise_is_learnt(noise):
    torch.manual_seed(0)
    t = noise.draw(10_000)
    assert (t >= noise.least).all() and (t <= noise.most).all()
    assert noise.sigma(t).min() > 0 and noise.log_snr(t).isfinite().all()
    assert noise.sigma(noise.ends()).min() >= 0.001
