"""Chains of counts against their matrices."""

import pytest
import torch

from pgm_expr.diffusion import Absorbing, Ordinal


@pytest.fixture(params=[Absorbing(5, 12), Ordinal(5, 12)], ids=["absorbing", "ordinal"])
def chain(request):
    return request.param


def test_closed_form_is_the_product_of_steps(chain):
    product = torch.eye(chain.states, dtype=torch.float64)
    torch.testing.assert_close(chain.upto(torch.tensor(0)), product, rtol=0, atol=1e-14)
    for t in torch.arange(1, 13):
        product = product @ chain.step(t)
        torch.testing.assert_close(chain.upto(t), product, rtol=0, atol=1e-13)


def test_rows_are_distributions(chain):
    t = torch.arange(1, 13)
    for table in (chain.step(t), chain.upto(t)):
        assert table.shape == (12, chain.states, chain.states) and (table >= 0).all()
        ones = torch.ones(12, chain.states, dtype=torch.float64)
        torch.testing.assert_close(table.sum(-1), ones, rtol=0, atol=1e-13)


def test_the_end_is_stationary_and_reached(chain):
    t = torch.arange(1, 13)
    end = chain.end()
    torch.testing.assert_close(end @ chain.step(t), end.expand(12, -1), rtol=0, atol=1e-13)
    reached = chain.upto(torch.tensor(12))
    torch.testing.assert_close(reached, end.expand_as(reached), rtol=0, atol=2e-3)


def test_ordinal_steps_are_symmetric_and_so_doubly_stochastic():
    for t in (1, 6, 12):
        step = Ordinal(5, 12).step(torch.tensor(t))
        torch.testing.assert_close(step, step.T, rtol=0, atol=1e-14)
        torch.testing.assert_close(step.sum(0), torch.ones(5).double(), rtol=0, atol=1e-13)


def test_ordinal_goes_to_neighbours_as_a_discrete_gaussian():
    """Far from the walls: falling with distance, of variance 2 s; and R is exp's generator."""
    chain = Ordinal(101, 20)
    walked = chain.walked(torch.tensor(6))
    row, k = chain.upto(torch.tensor(6))[50], torch.arange(101) - 50.0
    assert 0.1 < walked < 5 and (row[50:60].diff() < 0).all()
    torch.testing.assert_close((row * k**2).sum(), 2 * walked, rtol=1e-9, atol=0)
    small = Ordinal(4, 20)
    generator = torch.tensor([[-1, 1, 0, 0], [1, -2, 1, 0], [0, 1, -2, 1], [0, 0, 1, -1]])
    truth = torch.linalg.matrix_exp(small.walked(torch.tensor(9)) * generator)
    torch.testing.assert_close(small.upto(torch.tensor(9)), truth, rtol=0, atol=1e-13)


def test_absorbing_loses_an_even_share_a_step():
    share = Absorbing(5, 12).upto(torch.arange(13))[:, 2, -1]
    torch.testing.assert_close(share, torch.arange(13).double() / 12)
    assert (Absorbing(5, 12).step(torch.tensor(4))[-1] == Absorbing(5, 12).end()).all()
