"""What holds for each flow: densities that integrate to 1, inverses, conditions, seeds."""

import copy
from functools import partial

import pytest
import torch
from torch.nn.functional import one_hot

from pgm_expr.flow import ContinuousFlow, FlowMatching, SplineFlow, dopri5, optimal_transport

KINDS = {
    "spline": partial(SplineFlow, hidden=32),
    "continuous": partial(ContinuousFlow, hidden=32, solver_steps=2),
    "matching": partial(FlowMatching, hidden=32, layers=2, coupling=optimal_transport),
}
STEPS = {"spline": 150, "continuous": 140, "matching": 250}
LOOSE = {"spline": {}, "continuous": {}, "matching": {"solver": partial(dopri5, tolerance=1e-3)}}
TIGHT = {"solver": partial(dopri5, tolerance=1e-7)}
CELLS = 512


def ring():
    angle = 2 * torch.pi * torch.rand(CELLS, 1)
    radius = 3 + 0.4 * torch.randn(CELLS, 1)
    return radius * torch.cat([angle.cos(), angle.sin()], -1) + torch.tensor([5.0, 0.0])


LABEL = torch.arange(CELLS) % 2
CONDITION = one_hot(LABEL).float()
MEAN = torch.tensor([[10.0, -3.0], [12.0, 1.0]])
SD = torch.tensor([[0.5, 1.0], [1.0, 2.0]])


def gaussians():
    return MEAN[LABEL] + SD[LABEL] * torch.randn(CELLS, 2)


def trained(kind, posterior, condition=None):
    torch.manual_seed(0)
    flow = KINDS[kind](2, 0 if condition is None else 2)
    learning = dict(batch_size=128, learning_rate=5e-3)
    list(flow.fit(posterior, condition, steps=STEPS[kind], **learning))
    return flow


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def ringed(kind):
    return trained(kind, ring)


@pytest.fixture(scope="module")
def told(kind):
    return trained(kind, gaussians, CONDITION)


@pytest.fixture
def seeded():
    torch.manual_seed(0)


def test_a_density_integrates_to_one(kind, ringed):
    axis = torch.linspace(-6, 6, 81)
    z = torch.cartesian_prod(axis, axis) + torch.tensor([5.0, 0.0])
    with torch.no_grad():
        mass = ringed.log_prob(z, **LOOSE[kind]).exp().sum() * (axis[1] - axis[0]) ** 2
    assert mass.item() == pytest.approx(1, abs=0.01)


def test_it_learns_a_hole(ringed, seeded):
    """A Gaussian would have its mode in the middle of the ring."""
    drawn = ringed.sample(1000) - torch.tensor([5.0, 0.0])
    assert (drawn.norm(dim=-1) < 1).float().mean() < 0.05  # a Gaussian of this variance: .11
    middle = ringed.log_prob(torch.tensor([[5.0, 0.0]]))
    assert middle < ringed.log_prob(torch.tensor([[8.0, 0.0]])) - 1


def test_encoding_is_undone(kind, ringed, seeded):
    flow, z = copy.deepcopy(ringed).double(), ring().double()
    how = {} if kind == "spline" else TIGHT
    assert (flow.decode(flow.encode(z, **how), **how) - z).abs().max() < 1e-4
    u = torch.randn(200, 2).double()
    assert (flow.encode(flow.decode(u, **how), **how) - u).abs().max() < 1e-4


def test_a_density_is_that_of_its_encoding(kind, ringed, seeded):
    """By the determinant of the whole map, which no divergence enters."""
    flow, z = copy.deepcopy(ringed).double(), ring()[:5].double()
    how, h = {} if kind == "spline" else TIGHT, 1e-4
    ahead, behind = (
        torch.stack([flow.encode(z + way, **how) for way in step * torch.eye(2).double()], -1)
        for step in (h, -h)
    )
    volume = ((ahead - behind) / (2 * h)).det().abs().log()
    base = torch.distributions.Normal(0.0, 1.0).log_prob(flow.encode(z, **how)).sum(-1)
    with torch.no_grad():
        assert torch.allclose(flow.log_prob(z, **how), base + volume, atol=1e-3)


def test_training_sees_the_density(kind, ringed, seeded):
    """A velocity too fast for training's solver would be praised for the solver's errors."""
    if kind == "matching":
        pytest.skip("its loss is no likelihood")
    z = ring()
    with torch.no_grad():
        loss = ringed.loss((z - ringed.mean) / ringed.scale) + ringed.scale.log().sum()
        assert (loss + ringed.log_prob(z)).abs().mean() < 0.1


def test_conditions_recover_their_gaussians(told, seeded):
    for k in (0, 1):
        drawn = told.sample(4000, one_hot(torch.full((4000,), k), 2).float())
        assert torch.allclose(drawn.mean(0), MEAN[k], atol=0.25 * SD[k].max().item())
        assert torch.allclose(drawn.std(0) / SD[k], torch.ones(2), atol=0.2)


def test_densities_are_near_the_truth(kind, told, seeded):
    z = gaussians()
    truth = torch.distributions.Normal(MEAN[LABEL], SD[LABEL]).log_prob(z).sum(-1)
    with torch.no_grad():
        found = told.log_prob(z, CONDITION, **LOOSE[kind])
    assert -0.05 < (truth - found).mean() < 0.15  # KL, and its error over 512 cells


def test_a_round_trip_gives_the_same_draws(kind, told):
    again = KINDS[kind](2, 2)
    again.load_state_dict(told.state_dict())
    drawn = []
    for flow in (told, again):
        torch.manual_seed(1)
        drawn.append(flow.sample(CELLS, CONDITION))
    assert torch.equal(*drawn) and not drawn[0].requires_grad


def test_weights_of_version_0_5_load():
    """There the embedding of a continuous flow had another name."""
    saved = ContinuousFlow(2, 2, hidden=8)
    names = {"embed": "told"}
    old = {
        ".".join(names.get(part, part) for part in name.split(".")): tensor
        for name, tensor in saved.state_dict().items()
    }
    assert "network.told.0.weight" in old
    again = ContinuousFlow(2, 2, hidden=8)
    again.load_state_dict(old)
    assert all(
        torch.equal(a, b) for a, b in zip(saved.parameters(), again.parameters(), strict=True)
    )


def test_float64_is_the_same_flow(told, seeded):
    z, double = gaussians()[:50], copy.deepcopy(told).double()
    found = double.log_prob(z.double(), CONDITION[:50].double())
    assert found.dtype == torch.float64
    assert torch.allclose(found.float(), told.log_prob(z, CONDITION[:50]), atol=1e-2)
    assert double.sample(CELLS, CONDITION.double()).dtype == torch.float64


def test_fitting_is_seeded_and_leaves_the_callers_generator(kind):
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(3)
        flow = KINDS[kind](2)
        losses = [*flow.fit(ring, steps=3, batch_size=256, seed=seed)]
        found.append((losses, torch.rand(()).item()))
    assert found[0] == found[1] and found[0][0] != found[2][0] and found[0][1] == found[2][1]


def test_units_are_no_part_of_a_density(kind):
    """States a thousand times as large have densities a thousand times as small, a dimension."""
    found = []
    for unit in (1.0, 1024.0):
        torch.manual_seed(0)
        flow = KINDS[kind](2)
        list(flow.fit(lambda unit=unit: unit * ring(), steps=3, batch_size=256))
        torch.manual_seed(0)
        found.append(flow.log_prob(unit * ring()).detach() + 2 * torch.tensor(unit).log())
    assert torch.allclose(*found, atol=1e-3)


def test_one_dimension_and_one_cell_do(kind, seeded):
    flow = KINDS[kind](1, 1)
    list(flow.fit(lambda: torch.randn(20, 1), torch.randn(20, 1), steps=2, batch_size=10))
    c = torch.randn(1, 1)
    assert flow.sample(1, c).shape == (1, 1) and flow.log_prob(torch.zeros(1, 1), c).shape == (1,)


@pytest.mark.parametrize("condition", [None, torch.zeros(4, 3), torch.zeros(5, 2)])
def test_a_condition_that_does_not_fit_is_named(kind, condition):
    flow, z = KINDS[kind](2, 2), torch.zeros(4, 2)
    asked = [lambda: next(flow.fit(lambda: z, condition))]
    if condition is not None or kind != "matching":  # whose network knows none as well
        asked += [lambda: flow.sample(4, condition), lambda: flow.log_prob(z, condition)]
        asked += [lambda: flow.encode(z, condition), lambda: flow.decode(z, condition)]
    for ask in asked:
        with pytest.raises(ValueError, match=r"condition must be \(4, 2\), got .*Give a row"):
            ask()


def test_a_flow_of_no_conditions_takes_none(kind):
    with pytest.raises(ValueError, match="no conditions, got"):
        KINDS[kind](2).sample(4, torch.zeros(4, 2))
