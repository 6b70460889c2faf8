"""Samplers with an exact denoiser: what they give is what their equations say."""

import functools
import math

import pytest
import torch

from pgm_expr.diffusion import (
    EDM,
    VE,
    VPLinear,
    ddim,
    dpm_solver_pp_2m,
    euler_maruyama,
    heun,
    probability_flow,
)

pytestmark = pytest.mark.usefixtures("float64")

ancestral = functools.partial(ddim, eta=1.0)
SAMPLERS = {
    "euler_maruyama": (euler_maruyama, 1000),
    "ddim": (ddim, 400),
    "ancestral": (ancestral, 1000),
    "heun": (heun, 60),
    "dpm_solver_pp_2m": (dpm_solver_pp_2m, 60),
    "probability_flow": (probability_flow, 1),
}
DETERMINISTIC = {"ddim": (ddim, 1), "heun": (heun, 2), "dpm_solver_pp_2m": (dpm_solver_pp_2m, 2)}


def moments(sampler, denoise, steps, monkeypatch):
    """Exact mean and standard deviation of what a sampler gives, no draw made.

    The denoiser is affine, so x0 is too in the start and each noise added. Row 0 has none of
    them, row 1 a start of one standard deviation, row k + 2 the kth noise alone.
    """
    noise, asked = denoise.noise, []

    def impulse(x):
        asked.append(torch.zeros_like(x))
        asked[-1][len(asked) + 1] = 1.0
        return asked[-1]

    monkeypatch.setattr(torch, "randn_like", impulse)
    x, most = torch.zeros(steps + 2, 1), noise.ends()[1]
    x[1] = torch.hypot(noise.alpha(most), noise.sigma(most))
    out = sampler(denoise, noise, x, steps)
    monkeypatch.undo()
    return out[0].item(), (out[1:] - out[0]).norm().item()


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_exact_score_gives_the_data(name, noise, exact, monkeypatch):
    sampler, steps = SAMPLERS[name]
    mean, scale = moments(sampler, exact(noise), steps, monkeypatch)
    assert mean == pytest.approx(exact.mean, rel=0.01)
    assert scale == pytest.approx(exact.scale, rel=0.01)


@pytest.mark.parametrize("sampler", [euler_maruyama, ancestral])
def test_noise_is_really_drawn(sampler, exact):
    torch.manual_seed(0)
    noise, n = VPLinear(), 20_000
    x = sampler(exact(noise), noise, noise.start(n, 1), 300)
    assert abs(x.mean() - 2) < 0.01 and abs(x.std() / 0.25 - 1) < 0.03  # .02 is bias, .005 s.e.


def errors(sampler, noise, denoise, steps):
    """Of quantiles of the start, against where the probability flow takes them."""
    least, most = noise.ends()
    start = torch.linspace(-1.5, 1.5, 5)[:, None] * torch.hypot(
        noise.alpha(most), noise.sigma(most)
    )
    truth = denoise(denoise.move(start, most, least), least)
    return [(sampler(denoise, noise, start, n) - truth).abs().max().item() for n in steps]


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_error_falls_with_the_order(name, noise, exact):
    sampler, order = DETERMINISTIC[name]
    steps = [40, 80, 160, 320]
    found = errors(sampler, noise, exact(noise), steps)
    slopes = [math.log2(more / less) for more, less in zip(found, found[1:], strict=False)]
    assert slopes == pytest.approx([order] * 3, abs=0.15), found


def test_adaptive_steps_follow_the_flow(noise, exact):
    assert errors(probability_flow, noise, exact(noise), [1])[0] < 1e-4


def test_the_stochastic_equations_moments_err_in_first_order(exact, monkeypatch):
    noise = EDM(least=0.01)
    truth = exact(noise).spread(noise.ends()[0]).item()
    shrunk = 0.25**2 / truth  # of x0 at the least time
    found = [
        abs(moments(euler_maruyama, exact(noise), n, monkeypatch)[1] - shrunk)
        for n in (200, 400, 800)
    ]
    assert [found[0] / found[1], found[1] / found[2]] == pytest.approx([2, 2], abs=0.2)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_schedules_are_only_names_of_the_same_levels(name, exact):
    """VP and VE from the same log-SNR to the same: x / alpha takes one path."""
    sampler, _ = DETERMINISTIC[name]
    preserving = VPLinear()
    low, high = (-preserving.log_snr(preserving.ends()) / 2).exp().tolist()
    exploding, most = VE(low=low, high=high), preserving.ends()[1]
    y = torch.linspace(-2, 2, 5)[:, None] * high
    one = sampler(exact(exploding), exploding, y, 15)
    two = sampler(exact(preserving), preserving, y * preserving.alpha(most), 15)
    torch.testing.assert_close(one, two, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name, asked", [("heun", 19), ("dpm_solver_pp_2m", 10), ("ddim", 10)])
def test_steps_count_calls_and_the_last_answer_is_given(name, asked, noise, exact):
    answers = []

    def denoise(x, t):
        answers.append(exact(noise)(x, t))
        return answers[-1]

    x0 = SAMPLERS[name][0](denoise, noise, torch.ones(3, 1), 10)
    assert len(answers) == asked and x0 is answers[-1]


def test_no_noise_is_added_last(noise, exact):
    for sampler in (euler_maruyama, ancestral):
        answers = []

        def denoise(x, t, answers=answers):
            answers.append(exact(noise)(x, t))
            return answers[-1]

        assert sampler(denoise, noise, torch.ones(3, 1), 10) is answers[-1]


def test_an_eta_of_zero_draws_nothing_that_matters(noise, exact):
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(ddim(exact(noise), noise, torch.ones(3, 1), 10))
    assert torch.equal(*found)


def test_single_precision_is_enough(noise, exact):
    """No difference of nearly equal squares turns into a nan, at many steps either."""
    torch.manual_seed(0)
    every = [(euler_maruyama, 300), (ancestral, 800), (heun, 100), (dpm_solver_pp_2m, 100)]
    for sampler, steps in [*every, (probability_flow, 1)]:
        x = sampler(exact(noise), noise, noise.start(2000, 1).float(), steps)
        assert x.dtype == torch.float32 and abs(x.mean() - 2) < 0.04 and abs(x.std() - 0.25) < 0.02
