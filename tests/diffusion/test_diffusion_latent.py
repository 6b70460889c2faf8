"""A generator that learnt conditional Gaussians, and how it learns."""

import pytest
import torch
from torch.distributions import Normal
from torch.optim.optimizer import register_optimizer_step_post_hook

from pgm_expr.diffusion import (
    LatentDiffusion,
    VPCosine,
    euler_maruyama,
    heun,
    probability_flow,
    spread_by_weight,
)

MEANS = torch.tensor([[3.0, -1.0], [-2.0, 2.0]])
SCALES = torch.tensor([[0.5, 1.0], [1.0, 0.3]])
GROUPS = torch.eye(2).repeat_interleave(256, 0)


def posterior():
    return GROUPS @ MEANS + GROUPS @ SCALES * torch.randn(512, 2)


@pytest.fixture(scope="module")
def learnt():
    torch.manual_seed(0)
    made = LatentDiffusion(2, 2, hidden=64, dropout=0.2)
    assert (
        len([*made.fit(posterior, GROUPS, steps=500, batch_size=512, learning_rate=5e-3)]) == 500
    )
    return made


def told(group, n):
    return torch.eye(2)[[group]].expand(n, 2)


def test_groups_come_back(learnt):
    """Means within .1 standard deviations and those within 10%; 8,000 draws err by .011."""
    torch.manual_seed(0)
    for group in (0, 1):
        z = learnt.sample(8000, told(group, 8000))
        assert ((z.mean(0) - MEANS[group]) / SCALES[group]).abs().max() < 0.1
        assert (z.std(0) / SCALES[group] - 1).abs().max() < 0.1


def test_conditions_go_with_rows(learnt):
    torch.manual_seed(0)
    z = learnt.sample(512, GROUPS)
    assert ((z - GROUPS @ MEANS) / (GROUPS @ SCALES)).abs().mean() < 0.95  # .80 exactly


@pytest.mark.parametrize("condition, weight", [(None, 1.0), (told(0, 8000), 0.0)])
def test_without_a_condition_it_draws_the_mix(learnt, condition, weight):
    torch.manual_seed(0)
    z = learnt.sample(8000, condition, guidance=weight)
    first = z[:, 0] > 0.5
    assert abs(first.float().mean() - 0.5) < 0.05
    assert (z[first].mean(0) - MEANS[0]).abs().max() < 0.25
    assert (z[~first].mean(0) - MEANS[1]).abs().max() < 0.25


@pytest.mark.parametrize(
    "sampler, steps", [(heun, 20), (euler_maruyama, 200), (probability_flow, 1)]
)
def test_samplers_agree(learnt, sampler, steps):
    torch.manual_seed(0)
    z = learnt.sample(2000, told(0, 2000), sampler=sampler, steps=steps)
    assert ((z.mean(0) - MEANS[0]) / SCALES[0]).abs().max() < 0.12
    assert (z.std(0) / SCALES[0] - 1).abs().max() < 0.12


def test_more_guidance_is_less_spread(learnt):
    def draw(weight):
        torch.manual_seed(0)
        return learnt.sample(2000, told(1, 2000), guidance=weight)

    found = spread_by_weight(draw, (1.5, 3.0))
    assert found[3.0] < found[1.5] < 1


def exact_score(x, t, learnt):
    """Of group 0 faded to sigma = t, in the generator's units."""
    mean, scale = (MEANS[0] - learnt.mean) / learnt.scale, SCALES[0] / learnt.scale
    return -(x - mean) / (scale**2 + t**2)


@torch.no_grad()
def test_score_is_learnt_within_two_percent(learnt):
    """sigma^2 |s - exact|^2 over sigma^2 |exact|^2, at the levels it was trained at."""
    torch.manual_seed(0)
    x0 = (MEANS[0] + SCALES[0] * torch.randn(8000, 2) - learnt.mean) / learnt.scale
    t = learnt.denoise.noise.draw(8000)
    x = x0 + t[:, None] * torch.randn_like(x0)
    truth = exact_score(x, t[:, None], learnt)
    apart = learnt.denoise.score(x, t, told(0, 8000)) - truth
    error, size = ((t[:, None] * each).square().sum() for each in (apart, truth))
    assert error < 0.02 * size


def test_density_is_the_groups(learnt):
    """Of states in their own units, so with the Jacobian of standardising; in nats."""
    torch.manual_seed(0)
    rows = slice(None, None, 8)
    z, c = posterior()[rows], GROUPS[rows]
    truth = Normal(c @ MEANS, c @ SCALES).log_prob(z).sum(-1)
    found = learnt.log_prob(z, c, tolerance=1e-3)
    assert (found - truth).abs().mean() < 0.2 and abs((found - truth).mean()) < 0.1


def test_saved_weights_give_the_same_cells(learnt):
    copy = LatentDiffusion(2, 2, hidden=64)
    copy.load_state_dict(learnt.state_dict())
    found = []
    for made in (learnt, copy):
        torch.manual_seed(0)
        found.append(made.sample(10, told(0, 10)))
    assert torch.equal(*found)


def test_double_precision_works(learnt):
    copy = LatentDiffusion(2, 2, hidden=64).double()
    copy.load_state_dict(learnt.state_dict())
    torch.manual_seed(0)
    z = copy.sample(10, told(0, 10).double())
    torch.manual_seed(0)
    torch.testing.assert_close(z.float(), learnt.sample(10, told(0, 10)), rtol=1e-3, atol=1e-3)
    assert z.dtype == torch.float64
    assert copy.log_prob(z, told(0, 10).double(), tolerance=1e-3).dtype == torch.float64
    draws = lambda: posterior().double()  # noqa: E731
    assert [*copy.fit(draws, GROUPS.double(), steps=2)] and copy.mean.dtype == torch.float64


def small(draws=posterior, seed=0, **learning):
    torch.manual_seed(1)
    made = LatentDiffusion(2, 2, hidden=16)
    losses = [*made.fit(draws, GROUPS, steps=10, seed=seed, **learning)]
    torch.manual_seed(2)
    return losses, made.sample(20, GROUPS[:20])


def test_learning_is_seeded_and_leaves_the_callers_generator():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    made = LatentDiffusion(2)
    after = torch.get_rng_state()
    learning = made.fit(posterior, steps=4)
    for _ in learning:
        assert torch.equal(torch.get_rng_state(), after)
    assert not torch.equal(before, after)  # weights do come from the caller's
    one, two, other = small(), small(), small(seed=1)
    assert one[0] == two[0] and torch.equal(one[1], two[1]) and one[0] != other[0]


def test_states_are_draws_anew_not_means():
    asked = []

    def draws():
        asked.append(posterior())
        return asked[-1]

    small(draws)
    assert len(asked) == 6 and not torch.equal(asked[1], asked[2])  # 5 epochs, and units


def test_units_of_states_do_not_matter():
    _, z = small()
    _, moved = small(lambda: 1000 * posterior() - 50_000)
    torch.testing.assert_close(moved, 1000 * z - 50_000, rtol=0, atol=5.0)


def test_a_dimension_that_never_varies_stays_put():
    torch.manual_seed(0)
    made = LatentDiffusion(2, hidden=16)
    [*made.fit(lambda: torch.stack([torch.randn(64), torch.full((64,), 3.0)], 1), steps=5)]
    assert (made.sample(10)[:, 1] - 3).abs().max() < 1e-3


def test_weights_are_an_exponential_moving_average():
    seen = []
    hook = register_optimizer_step_post_hook(
        lambda optimizer, *_: seen.append(
            [p.detach().clone() for p in optimizer.param_groups[0]["params"]]
        )
    )
    torch.manual_seed(0)
    made = LatentDiffusion(2, hidden=16)
    [*made.fit(posterior, steps=12, decay=0.4)]
    hook.remove()
    average = seen[0]
    for weights in seen[1:]:
        average = [0.4 * a + 0.6 * w for a, w in zip(average, weights, strict=True)]
    found = [parameter.detach() for parameter in made.denoise.parameters()]
    torch.testing.assert_close(found, average)
    assert not torch.equal(found[-1], seen[-1][-1])


def test_a_variance_preserving_path_learns_too():
    torch.manual_seed(0)
    made = LatentDiffusion(1, hidden=32, noise=VPCosine())
    [*made.fit(lambda: 5 + 2 * torch.randn(512, 1), steps=200)]
    z = made.sample(4000)
    assert abs(z.mean() - 5) < 0.3 and abs(z.std() / 2 - 1) < 0.12
