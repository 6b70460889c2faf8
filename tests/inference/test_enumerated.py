"""An enumerated site: every objective is the sum over its values written by hand."""

import math
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from sklearn.metrics import log_loss
from torch import nn
from torch.distributions import Categorical, Normal

from pgm_expr.inference import ELBO, IWAE, Enum, Renyi, Trace, check_story
from pgm_expr.parts import Confusion

KINDS, GENES, CELLS, NOISE = 3, 4, 40, 0.2
PARALLEL = {"enumerate": "parallel"}


@pytest.fixture(autouse=True)
def seed(float64):
    torch.manual_seed(0)


class Mixture(nn.Module):
    """y ~ Categorical(share), label ~ confusion_y where recorded, x ~ N(loc_y, 1)."""

    def __init__(self):
        super().__init__()
        self.share = nn.Parameter(torch.randn(KINDS))
        self.loc = nn.Parameter(torch.randn(KINDS, GENES))
        self.confusion = Confusion(KINDS, NOISE)

    def forward(self, library, label, x=None):
        with pyro.plate("cells", len(library)):
            y = pyro.sample("y", dist.Categorical(logits=self.share))  # (N,)
            with poutine.mask(mask=label >= 0):
                pyro.sample("label", self.confusion(y), obs=label.clamp_min(0))
            return pyro.sample("x", dist.Normal(self.loc[y], 1.0).to_event(1), obs=x)

    def terms(self, label, x):
        """log p(y), log p(label | y) and log p(x | y) of each kind, (N, K), by hand."""
        told = torch.full((KINDS, KINDS), NOISE / (KINDS - 1)).fill_diagonal_(1 - NOISE)
        told = torch.where(label[:, None] >= 0, told.log()[:, label.clamp_min(0)].T, 0.0)
        means = Normal(self.loc, 1.0).log_prob(x.unsqueeze(1)).sum(-1)
        return self.share.log_softmax(-1).expand(len(x), -1), told, means


class Kinds(nn.Module):
    """q(y | x, label): exact where a model is given, else linear in x."""

    def __init__(self, model=None):
        super().__init__()
        self._borrowed, self.head = (model,), nn.Linear(GENES, KINDS)

    def classify(self, x):
        return self.head(x).log_softmax(-1)

    def logits(self, label, x):
        (model,) = self._borrowed
        return self.classify(x) if model is None else sum(model.terms(label, x)).log_softmax(-1)

    def forward(self, library, label, x=None):
        with pyro.plate("cells", len(library)):
            pyro.sample("y", dist.Categorical(logits=self.logits(label, x)), infer=PARALLEL)


class Scattered(Mixture):
    """The same with a state between kind and counts: z ~ N(loc_y, I), x ~ N(z, I)."""

    def forward(self, library, label, x=None):
        with pyro.plate("cells", len(library)):
            y = pyro.sample("y", dist.Categorical(logits=self.share))
            with poutine.mask(mask=label >= 0):
                pyro.sample("label", self.confusion(y), obs=label.clamp_min(0))
            z = pyro.sample("z", dist.Normal(self.loc[y], 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def terms(self, label, x):
        share, told, _ = super().terms(label, x)
        return share, told, Normal(self.loc, math.sqrt(2)).log_prob(x.unsqueeze(1)).sum(-1)


class States(Kinds):
    """And q(z | x, y), which is exact: half way between the kind's centre and the counts."""

    def __init__(self, model, exact=True):
        super().__init__(model if exact else None)
        self._model = (model,)

    def forward(self, library, label, x=None):
        (model,) = self._model
        with pyro.plate("cells", len(library)):
            logits = self.logits(label, x)
            y = pyro.sample("y", dist.Categorical(logits=logits), infer=PARALLEL)
            q = dist.Normal((model.loc[y] + x) / 2, math.sqrt(0.5))
            pyro.sample("z", q.to_event(1))


class OwnStates(Kinds):
    """And q(z | x) = N(shift + x, width^2) whatever the kind."""

    def __init__(self):
        super().__init__()
        self.shift, self.log_width = nn.Parameter(torch.randn(GENES)), nn.Parameter(torch.zeros(1))

    def state(self, x):
        return dist.Normal(self.shift + x, self.log_width.exp())

    def forward(self, library, label, x=None):
        with pyro.plate("cells", len(library)):
            pyro.sample("y", dist.Categorical(logits=self.logits(label, x)), infer=PARALLEL)
            pyro.sample("z", self.state(x).to_event(1))


def cells(labelled=True):
    """Half of the cells have a label, -1 is none."""
    label = torch.randint(KINDS, (CELLS,)) if labelled else torch.full((CELLS,), -1)
    label[::2] = -1
    return {"library": torch.ones(CELLS, 1), "label": label, "x": 2 * torch.randn(CELLS, GENES)}


def evidence(model, batch):
    """log p(x, label), or log p(x) of a cell without a label, (N,)."""
    return sum(model.terms(batch["label"], batch["x"])).logsumexp(-1)


def off(guide, model, batch):
    """KL(q(y) || p(y | x, label)) of each cell, (N,)."""
    logits = sum(model.terms(batch["label"], batch["x"]))
    own = guide.logits(batch["label"], batch["x"])
    return torch.distributions.kl_divergence(Categorical(logits=own), Categorical(logits=logits))


def close(a, b):
    return torch.allclose(a, b, rtol=0, atol=1e-8)


def gradients(loss, *halves):
    parameters = [p for half in halves for p in half.parameters()]
    return torch.autograd.grad(loss, parameters, allow_unused=True)


def same(ours, theirs):
    pairs = zip(ours, theirs, strict=True)
    return all((a is b is None) or torch.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in pairs)


# Evidences in closed form


@pytest.mark.parametrize("labelled", [False, True], ids=["no label", "labels"])
@pytest.mark.parametrize("kind", [ELBO, Trace, Enum, IWAE, Renyi])
@pytest.mark.parametrize("particles", [1, 5])
def test_the_exact_posterior_gives_the_evidence(kind, labelled, particles):
    """Labelled cells: the exact log p(x, label), through the confusion of labels."""
    model, batch = Mixture(), cells(labelled)
    settings = {"aux": 0.0} if kind is Enum else {}
    bound = kind(model, Kinds(model), cells=CELLS, particles=particles, **settings)
    assert close(bound.per_cell(**batch), evidence(model, batch))
    assert bound(**batch).item() == pytest.approx(-evidence(model, batch).mean().item(), abs=1e-8)


@pytest.mark.parametrize("kind", [Trace, IWAE, Renyi])
@pytest.mark.parametrize("particles", [1, 5])
def test_so_it_does_with_a_state_that_depends_on_the_kind(kind, particles):
    model, batch = Scattered(), cells()
    bound = kind(model, States(model), cells=CELLS, particles=particles)
    assert close(bound.per_cell(**batch), evidence(model, batch))


def test_a_label_without_noise_is_the_kind_itself():
    """log p(x, y = label); of an unlabelled cell log p(x)."""
    model, batch = Mixture(), cells()
    share, _, means = model.terms(batch["label"], batch["x"])
    known = batch["label"] >= 0
    joint = (share + means).gather(1, batch["label"].clamp_min(0)[:, None]).squeeze(1)
    model.confusion.matrix.copy_(torch.eye(KINDS).clamp(min=1e-300))
    bound = IWAE(model, Kinds(), cells=CELLS).per_cell(**batch)
    assert close(bound[known], joint[known])
    assert close(bound[~known], (share + means).logsumexp(-1)[~known])


@pytest.mark.parametrize("kind", [ELBO, Trace])
def test_a_wrong_guide_costs_exactly_its_divergence(kind):
    model, guide, batch = Mixture(), Kinds(), cells()
    gap = evidence(model, batch) - kind(model, guide, cells=CELLS).per_cell(**batch)
    assert close(gap, off(guide, model, batch)) and gap.max() > 0.5


def test_a_wrong_guide_of_kinds_costs_the_same_with_exact_states():
    model, batch = Scattered(), cells()
    guide = States(model, exact=False)
    gap = evidence(model, batch) - Trace(model, guide, cells=CELLS, particles=3).per_cell(**batch)
    assert close(gap, off(guide, model, batch)) and gap.max() > 0.5


def test_importance_weights_do_not_ask_the_guide_of_kinds():
    """IWAE sums the kinds exactly, so q(y) drops out."""
    model, batch = Mixture(), cells()
    assert close(
        IWAE(model, Kinds(), cells=CELLS, particles=2).per_cell(**batch), evidence(model, batch)
    )
    model, guide = Scattered(), OwnStates()
    bound, found = IWAE(model, guide, cells=CELLS, particles=4), []
    for _ in range(2):
        guide.head.reset_parameters()
        torch.manual_seed(1)
        found.append(bound.per_cell(**batch))
    assert close(*found)
    torch.manual_seed(1)
    other, _ = bound.per_cell(**batch), guide.shift.data.add_(0.1)
    torch.manual_seed(1)
    assert not close(bound.per_cell(**batch), other)


# Sums written by hand


def by_hand(model, guide, batch, weight=1.0):
    """Minus the ELBO, sum_y q(y) (log p(y) + weight log p(label | y) + log p(x | y) - log q)."""
    share, told, means = model.terms(batch["label"], batch["x"])
    log_q = guide.classify(batch["x"])
    return -(log_q.exp() * (share + weight * told + means - log_q)).sum(-1).mean()


@pytest.mark.parametrize("kind", [ELBO, Trace])
@pytest.mark.parametrize("particles", [1, 4])
def test_value_and_gradient_are_those_of_the_sum(kind, particles):
    model, guide, batch = Mixture(), Kinds(), cells()
    loss = kind(model, guide, cells=CELLS, particles=particles)(**batch)
    theirs = by_hand(model, guide, batch)
    assert close(loss, theirs)
    assert same(gradients(loss, model, guide), gradients(theirs, model, guide))


def test_the_gradient_of_importance_weights_is_the_evidences():
    model, guide, batch = Mixture(), Kinds(), cells()
    ours = gradients(IWAE(model, guide, cells=CELLS, particles=3)(**batch), model)
    assert same(ours, gradients(-evidence(model, batch).mean(), model))


def test_with_states_the_sum_is_over_the_same_draws():
    """log p - log q at S draws of z, each beside all kinds."""
    model, guide, batch = Scattered(), OwnStates(), cells()
    torch.manual_seed(3)
    loss = Trace(model, guide, cells=CELLS, particles=6)(**batch)
    torch.manual_seed(3)
    q = guide.state(batch["x"])
    z = q.rsample((6,))  # (S, N, G)
    share, told, _ = model.terms(batch["label"], batch["x"])
    prior = Normal(model.loc, 1.0).log_prob(z.unsqueeze(-2)).sum(-1)  # (S, N, K)
    log_q = guide.classify(batch["x"])
    inner = (log_q.exp() * (share + told + prior - log_q)).sum(-1)
    rest = Normal(z, 1.0).log_prob(batch["x"]).sum(-1) - q.log_prob(z).sum(-1)
    theirs = -(inner + rest).mean()
    assert close(loss, theirs)
    assert same(gradients(loss, model, guide), gradients(theirs, model, guide))


@pytest.mark.parametrize("aux", [1.0, 3.0])
def test_the_auxiliary_term_is_the_log_loss_of_labelled_cells(aux):
    model, guide, batch = Mixture(), Kinds(), cells()
    with_, without = (Enum(model, guide, cells=CELLS, aux=a)(**batch) for a in (aux, 0.0))
    known = batch["label"] >= 0
    p = guide.classify(batch["x"]).exp()[known].detach().numpy()
    expected = log_loss(batch["label"][known].numpy(), p, labels=range(KINDS))
    assert (with_ - without).item() == pytest.approx(aux * expected, rel=1e-10)


def test_the_auxiliary_term_is_no_part_of_the_bound_and_nothing_without_labels():
    model, guide, batch = Mixture(), Kinds(), cells()
    taught, plain = Enum(model, guide, cells=CELLS, aux=5.0), ELBO(model, guide, cells=CELLS)
    assert close(taught.per_cell(**batch), plain.per_cell(**batch))
    batch["label"] = torch.full((CELLS,), -1)
    assert close(taught(**batch), plain(**batch))


def test_a_weight_is_of_its_own_site():
    model, guide, batch = Mixture(), Kinds(), cells()
    bound = ELBO(model, guide, cells=CELLS)
    before = bound.per_cell(**batch)
    for weight in (0.0, 2.5):
        theirs = by_hand(model, guide, batch, weight)
        loss = bound.weight("label", weight)(**batch)
        assert close(loss, theirs)
        assert same(gradients(loss, model, guide), gradients(theirs, model, guide))
    assert close(bound.per_cell(**batch), before)
    share, told, means = model.terms(batch["label"], batch["x"])
    summed = IWAE(model, guide, cells=CELLS).weight("label", 2.5)(**batch)
    assert close(summed, -(share + 2.5 * told + means).logsumexp(-1).mean())


def test_a_temper_is_of_kind_and_state():
    model, guide, batch = Mixture(), Kinds(), cells()
    share, told, means = model.terms(batch["label"], batch["x"])
    log_q = guide.classify(batch["x"])
    theirs = (log_q.exp() * (0.3 * (log_q - share) - told - means)).sum(-1).mean()
    assert close(ELBO(model, guide, cells=CELLS).temper(0.3)(**batch), theirs)


# What the linter says


class Drawn(Kinds):
    def forward(self, library, label, x=None):
        with pyro.plate("cells", len(library)):
            pyro.sample("y", dist.Categorical(logits=self.classify(x)))  # drawn


class Late(Kinds):
    def forward(self, library, label, x=None):
        with pyro.plate("cells", len(library)):
            pyro.sample("z", dist.Normal(x, 1.0).to_event(1))
            pyro.sample("y", dist.Categorical(logits=self.classify(x)), infer=PARALLEL)  # late


class Joined(Scattered):
    def forward(self, library, label, x=None):
        with pyro.plate("cells", len(library)):
            y = pyro.sample("y", dist.Categorical(logits=self.share))
            with poutine.mask(mask=label >= 0):
                pyro.sample("label", self.confusion(y), obs=label.clamp_min(0))
            z = pyro.sample("z", dist.Normal(self.loc[y], 1.0).to_event(1))
            eta = torch.cat([z, self.loc[y]], -1)[..., :GENES]  # joined
            return pyro.sample("x", dist.Normal(eta, 1.0).to_event(1), obs=x)


FAULTS = {
    "drawn": (
        lambda: (Mixture(), Drawn()),
        r"site 'y' of Drawn is discrete: drawn, it has no gradient\. Write "
        r"infer=\{'enumerate': 'parallel'\} in its pyro\.sample\.",
    ),
    "late": (
        lambda: (Scattered(), Late()),
        r"site 'y' of Late is enumerated after 'z'\. Sample it first, .* of its kind alone",
    ),
    "joined": (
        lambda: (Joined(), OwnStates()),
        r"Joined\.forward raised RuntimeError: .*dimensions",
    ),
}


@pytest.mark.parametrize("kind", [ELBO, IWAE])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_an_enumerated_site_has_its_line(fault, kind):
    build, words = FAULTS[fault]
    lines = Path(__file__).read_text().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if line.endswith(f"# {fault}"))
    with pytest.raises(ValueError, match=rf"^test_enumerated\.py, line {number}: {words}") as said:
        check_story(kind(*build(), cells=CELLS), cells())
    assert "\n" not in str(said.value)


def test_sound_pairs_pass_the_linter():
    for model, guide in ((Mixture(), Kinds()), (Scattered(), OwnStates())):
        for particles in (1, 3):
            check_story(ELBO(model, guide, cells=CELLS, particles=particles), cells())
