"""Stories written in Pyro's own way: random attributes, constrained parameters, none left over."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints
from pyro.nn import PyroModule, PyroParam, PyroSample
from torch import nn
from torch.distributions import Normal

from pgm_expr.inference import Trace, call, check_story

GENES = 3
BATCH = {"library": torch.ones(5, 1), "x": torch.randn(5, GENES)}


class Weighed(PyroModule):
    """w ~ N(0, 1), z_n ~ N(0, 1), x_n ~ N(z_n w + shift, scale^2)."""

    def __init__(self):
        super().__init__()
        self.w = PyroSample(dist.Normal(torch.zeros(1, GENES), 1.0).to_event(2))
        self.shift = nn.Linear(1, GENES)
        self.scale = PyroParam(torch.ones(GENES), constraint=constraints.positive)

    def forward(self, library, x=None):
        w = self.w
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            loc = z @ w + self.shift(torch.ones(1))
            return pyro.sample("x", dist.Normal(loc, self.scale).to_event(1), obs=x)


class Decorated(Weighed):
    """The same, `w` as a decorated method."""

    def __init__(self):
        super().__init__()
        del self.w

    @PyroSample
    def w(self):
        return dist.Normal(torch.zeros(1, GENES), 1.0).to_event(2)


class Inner(PyroModule):
    """The same, `w` in a module within."""

    def __init__(self):
        super().__init__()
        self.inner = Weighed()

    def forward(self, library, x=None):
        return self.inner(library, x)


class Guide(PyroModule):
    """q(w) q(z)."""

    def __init__(self, site="w"):
        super().__init__()
        self.site = site
        self.loc = nn.Parameter(torch.full((1, GENES), 0.3))
        self.scale = PyroParam(torch.full((1, GENES), 0.5), constraint=constraints.positive)

    def forward(self, library, x=None):
        pyro.sample(self.site, dist.Normal(self.loc, self.scale).to_event(2))
        with pyro.plate("cells", len(library)):
            pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))


@pytest.mark.parametrize(
    "model, site", [(Weighed, "w"), (Decorated, "w"), (Inner, "inner.w")], ids=str
)
def test_a_random_attribute_is_a_site_that_all_cells_share(model, site):
    guide = Guide(site)
    objective = Trace(model(), guide, cells=50)
    check_story(objective, BATCH)
    torch.manual_seed(0)
    draw = objective.draw(BATCH)
    torch.manual_seed(0)
    w = Normal(guide.loc, guide.scale).sample()
    expected = Normal(0.0, 1.0).log_prob(w) - Normal(guide.loc, guide.scale).log_prob(w)
    assert torch.allclose(draw.shared * 50, expected.sum())


@pytest.mark.parametrize("model, site", [(Weighed, "w"), (Inner, "inner.w")], ids=str)
def test_every_parameter_learns_and_none_stays_in_the_store(model, site):
    objective = Trace(model(), Guide(site), cells=50)
    objective(**BATCH).backward()
    gradients = {name: p.grad for name, p in objective.named_parameters()}
    assert len(gradients) == 5 and all(g is not None and g.any() for g in gradients.values())
    assert not dict(pyro.get_param_store())


def test_the_store_of_the_caller_stays_as_it_is():
    theirs = pyro.param("loc", torch.tensor(3.0))
    call(Weighed(), BATCH)
    assert dict(pyro.get_param_store()) == {"loc": theirs}


class Forgotten(nn.Module):
    """A model whose parameter no module owns."""

    def forward(self, library, x=None):
        shift = pyro.param("shift", torch.zeros(GENES))
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z + shift, 1.0).to_event(1), obs=x)


class Cells(nn.Module):
    """q(z)."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(1))

    def forward(self, library, x=None):
        with pyro.plate("cells", len(library)):
            pyro.sample("z", dist.Normal(self.loc, 1.0).to_event(1))


def test_a_parameter_that_no_module_owns_is_refused():
    with pytest.raises(ValueError, match="line .*pyro.param 'shift' of Forgotten .*self.shift ="):
        check_story(Trace(Forgotten(), Cells(), cells=5), BATCH)
