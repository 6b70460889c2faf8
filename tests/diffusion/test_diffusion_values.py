"""Diffusion of log values, and what the way back to counts loses."""

import pytest
import torch

from pgm_expr.diffusion import ValueDiffusion, drawn, normalised, rounded

RATES = torch.tensor([[20.0, 5.0, 60.0, 1.0], [5.0, 40.0, 60.0, 1.0]])
GROUPS = torch.eye(2).repeat_interleave(200, 0)


def cells(seed=0):
    return torch.poisson(GROUPS @ RATES, torch.Generator().manual_seed(seed))


def test_values_are_of_library_normalised_counts():
    x = torch.tensor([[1.0, 3.0], [10.0, 30.0], [0.0, 0.0]])
    truth = torch.tensor([[2500.0, 7500.0], [2500.0, 7500.0], [0.0, 0.0]]).log1p()
    torch.testing.assert_close(normalised(x), truth)


def test_rounding_gives_a_cell_back_at_its_own_library():
    x = cells()
    assert torch.equal(rounded(normalised(x), x.sum(-1, keepdim=True)), x)


def test_rounding_loses_what_expects_less_than_a_half():
    """At a library of 15, a gene of one count in a hundred is gone from nearly every cell."""
    x, few = cells(), torch.full((400, 1), 15.0)
    kept = rounded(normalised(x), few)[:, 3].mean()
    meant = (few * x / x.sum(-1, keepdim=True))[:, 3].mean()
    assert meant > 0.15 and kept < 0.4 * meant


def test_a_poisson_draw_keeps_means_and_counts_noise_twice():
    x = cells()[:1].expand(20_000, 4)
    torch.manual_seed(0)
    again = drawn(normalised(x), x.sum(-1, keepdim=True))
    assert ((again.mean(0) - x[0]).abs() < 5 * (x[0] / 20_000).sqrt() + 1e-9).all()
    torch.manual_seed(0)
    x = torch.poisson(RATES[0].expand(20_000, 4))
    twice = drawn(normalised(x), x.sum(-1, keepdim=True))
    torch.testing.assert_close(twice.var(0), 2 * RATES[0], rtol=0.06, atol=0)


def test_values_below_zero_are_zeros_and_a_library_is_what_is_meant():
    values, library = (
        torch.tensor([[-3.0, 1.0, 2.0], [-1.0, -1.0, -1.0]]),
        torch.full((2, 1), 50.0),
    )
    for back in (rounded, drawn):
        x = back(values, library)
        assert (x[:, 0] == 0).all() and (x[1] == 0).all() and (x == x.round()).all()
    assert abs(rounded(values, library)[0].sum() - 50) <= 1


@pytest.fixture(scope="module")
def learnt():
    torch.manual_seed(0)
    made = ValueDiffusion(4, 2, hidden=32, layers=2)
    [*made.fit(cells(), GROUPS, steps=400, learning_rate=5e-3)]
    return made


def test_values_of_each_group_come_back(learnt):
    """Means within .2 standard deviations of the group, those within 40%: genes are scaled by
    what both groups spread, up to 4 times that."""
    torch.manual_seed(0)
    values = normalised(cells())
    for group in (0, 1):
        real = values[GROUPS[:, group] == 1]
        made = learnt.sample(4000, torch.eye(2)[[group]].expand(4000, 2))
        assert (made >= 0).all()
        assert ((made.mean(0) - real.mean(0)) / real.std(0)).abs().max() < 0.2
        assert (made.std(0) / real.std(0) - 1).abs().max() < 0.4


def test_counts_of_each_group_come_back(learnt):
    torch.manual_seed(0)
    library = cells().sum(-1, keepdim=True)
    x = drawn(learnt.sample(400, GROUPS), library)
    assert (x >= 0).all() and (x == x.round()).all()
    for group in (0, 1):
        at = GROUPS[:, group] == 1
        torch.testing.assert_close(x[at].mean(0)[:3], RATES[group, :3], rtol=0.15, atol=0.5)
