"""Couplings reorder noise, and only noise."""

import pytest
import torch

from pgm_expr.flow import FlowMatching, independent, optimal_transport


@pytest.fixture
def pairs():
    torch.manual_seed(0)
    return torch.randn(128, 3), torch.randn(128, 3) * torch.tensor([2.0, 1.0, 0.5])


def test_transport_is_cheaper_and_keeps_every_row(pairs):
    noise, x = pairs
    moved = optimal_transport(noise, x)
    assert independent(noise, x) is noise
    assert ((moved - x) ** 2).sum() < 0.6 * ((noise - x) ** 2).sum()
    assert torch.equal(moved.unique(dim=0), noise.unique(dim=0))


def test_in_one_dimension_it_sorts(pairs):
    noise, x = (each[:, :1] for each in pairs)
    moved = optimal_transport(noise, x)
    assert torch.equal(moved[x[:, 0].argsort()], noise.sort(0).values)


def test_noise_stays_with_its_condition(pairs):
    noise, _ = pairs
    label = torch.arange(128) % 2
    c = torch.nn.functional.one_hot(label).float()
    x = 0.3 * noise.roll(1, 0) + 4 * label[:, None]
    moved = optimal_transport(noise, x, c)
    for k in (0, 1):
        mine = label == k
        assert torch.equal(moved[mine].unique(dim=0), noise[mine].unique(dim=0))
        assert torch.equal(moved[mine], optimal_transport(noise[mine], x[mine]))


def correlation(coupling, told):
    """Between condition and paired noise, where the state follows a continuous condition."""
    found = []
    for _ in range(20):
        c, noise = torch.randn(128, 1), torch.randn(128, 1)
        found.append((coupling(noise, 2 * c, c if told else None) * c).mean())
    return torch.stack(found).mean().abs().item()


def test_noise_knows_nothing_of_a_continuous_condition():
    torch.manual_seed(0)
    # 20 x 128 products have a standard error of .02
    assert correlation(optimal_transport, told=True) < 0.1
    assert correlation(optimal_transport, told=False) > 0.9  # what is avoided


def test_conditions_stay_with_their_states():
    seen = []

    def watch(noise, x, c):
        seen.append((x, c))
        return optimal_transport(noise, x, c)

    z = torch.randn(64, 2)
    flow = FlowMatching(2, 2, hidden=8, coupling=watch)
    list(flow.fit(lambda: z, 3 * z, steps=4, batch_size=32))
    assert len(seen) == 4
    assert all(torch.allclose(3 * (x * flow.scale + flow.mean), c, atol=1e-5) for x, c in seen)
