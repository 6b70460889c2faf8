"""The linter: each fault of a user's file has a sentence of its own, with file and line."""

import re
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from pgm_expr import zoo
from pgm_expr.inference import ELBO, IWAE, MeanField, Trace, check_story

CELLS, GENES, SMALL = 7, 12, dict(latent=3, hidden=8)
MODEL_SITE = 'z = pyro.sample("z", self.prior())'
GUIDE_SITE = 'pyro.sample("z", self.posterior(self.encode(torch.log1p(x))))'
OBSERVED = 'return pyro.sample("x", self.likelihood(eta, library), obs=x)'
PLATE = 'with pyro.plate("cells", len(library)):\n            '
NORMAL = "pyro.distributions.Normal(torch.zeros(len(library), 3), 1.0)"
FORWARD = "def forward(self, library: Tensor, x: Tensor | None = None) -> Tensor:"


def batch(cells=CELLS):
    x = torch.ones(cells, GENES)
    return {"library": x.sum(-1, keepdim=True), "x": x}


@pytest.fixture
def sentence(tmp_path):
    """What is said of mine.py with one thing changed."""

    def of(old, new, kind=None, **settings):
        path = tmp_path / "mine.py"
        path.unlink(missing_ok=True)
        zoo.new(path)
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))
        story = zoo.load_story(path)
        pair = zoo.build(story, {"genes": GENES, "average": torch.ones(GENES) / GENES}, **SMALL)
        with pytest.raises(ValueError) as caught:
            check_story((kind or story.objective)(*pair, cells=CELLS, **settings), batch())
        assert "\n" not in str(caught.value)
        return str(caught.value), path.read_text()

    return of


def line_of(text, part):
    (number,) = (n for n, line in enumerate(text.splitlines(), 1) if part in line)
    return f"mine.py, line {number}: "


W = GUIDE_SITE.replace('"z"', '"w"')
FAULTS = {
    "name": (GUIDE_SITE, W, W, "site 'w' of VAEGuide is not latent in VAE, whose site 'z'"),
    "plate": (
        PLATE + GUIDE_SITE,
        "if True:\n            " + GUIDE_SITE,
        GUIDE_SITE,
        r"VAEGuide stands in no plate\. Write it under pyro\.plate\('cells', len\(library\)\)",
    ),
    "shape": (
        GUIDE_SITE,
        f'pyro.sample("z", {NORMAL})',
        NORMAL,
        r"site 'z' of VAEGuide does not fit .* End a vector's distribution with \.to_event\(1\)",
    ),
    "argument": (
        FORWARD,
        FORWARD.replace("x: Tensor", "dose: Tensor, x: Tensor"),
        "dose: Tensor",
        "VAE needs dose: the minibatch holds library, x",
    ),
}


def test_four_faults_have_four_sentences(sentence):
    said = set()
    for old, new, part, words in FAULTS.values():
        message, text = sentence(old, new)
        assert message.startswith(line_of(text, part)), message
        assert re.search(words, message), message
        said.add(re.sub(r"^mine.py, line \d+: ", "", message)[:60])
    assert len(said) == 4


OTHERS = {
    "model's name": (MODEL_SITE, MODEL_SITE.replace('"z"', '"w"'), GUIDE_SITE, "whose site 'w'"),
    "drawn nowhere": (GUIDE_SITE, "pass", MODEL_SITE, "VAEGuide lacks it"),
    "drawn in vain": (
        GUIDE_SITE,
        GUIDE_SITE + f'\n            pyro.sample("w", {NORMAL}.to_event(1))',
        '"w"',
        "site 'w' of VAEGuide is no site of VAE",
    ),
    "observed": (
        GUIDE_SITE,
        GUIDE_SITE + '\n            pyro.sample("x", pyro.distributions.Delta(x, event_dim=1))',
        '"x", pyro',
        "is observed in VAE",
    ),
    "model's plate": (PLATE, "if True:\n            ", MODEL_SITE, "stands in no plate, where"),
    "observed's plate": (
        "            " + OBSERVED,
        "        " + OBSERVED,
        OBSERVED,
        "site 'x' of VAE stands in no plate",
    ),
    "other plate": (PLATE, PLATE.replace("cells", "spots"), MODEL_SITE, "'spots', not 'cells'"),
    "fixed size": (
        PLATE + "z",
        PLATE.replace("len(library)", "64") + "z",
        MODEL_SITE,
        "plate 'cells' of 64 where the minibatch has 7 cells",
    ),
    "subsample": (
        PLATE + "z",
        PLATE.replace("len(library)", "700, subsample_size=7") + "z",
        MODEL_SITE,
        "plate 'cells' of 700 where the minibatch has 7 cells",
    ),
    "scale": (
        PLATE + "z",
        "with pyro.poutine.scale(scale=0.5), " + PLATE[5:] + "z",
        MODEL_SITE,
        "scaled",
    ),
    "model's shape": (MODEL_SITE, f'z = pyro.sample("z", {NORMAL})', NORMAL, "to_event"),
    "draw": (
        GUIDE_SITE,
        f'pyro.sample("z", {NORMAL}.to_event(2))',
        NORMAL,
        r"shape \[7, 3\] a cell, VAE takes \[3\] \(mine.py, line \d+\)",
    ),
    "auxiliary": (
        GUIDE_SITE,
        GUIDE_SITE[:-1] + ', infer={"is_auxiliary": True})',
        "is_auxiliary",
        "is auxiliary and stands in plate 'cells'",
    ),
    "support": (OBSERVED, OBSERVED.replace("obs=x", "obs=x / 2"), "obs=x / 2", "cannot hold its"),
    "sizes": (
        "mlp(latent,",
        "mlp(latent + 1,",
        "self.decode(z)",
        r"VAE\.forward raised RuntimeError: mat1 and mat2 .*\(7x3 and 4x8\)",
    ),
    "attribute": (
        "eta = self.decode(z)",
        "eta = self.decod(z)",
        "decod(z)",
        "no attribute 'decod'",
    ),
    "in a site": (
        GUIDE_SITE,
        'pyro.sample("z", 3)',
        '"z", 3)',
        r"VAEGuide\.forward raised \w+ at site 'z'",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_every_other_fault_names_its_line(kind, sentence):
    old, new, part, words = OTHERS[kind]
    message, text = sentence(old, new)
    assert message.startswith(line_of(text, part)), message
    assert re.search(words, message), message


@pytest.mark.parametrize("kind", ["name", "plate", "shape", "argument"])
def test_particles_say_the_same(kind, sentence):
    old, new, part, words = FAULTS[kind]
    message, text = sentence(old, new, Trace, particles=4)
    assert message.startswith(line_of(text, part)), message


def test_a_pair_without_closed_form_is_told_before_the_first_epoch(sentence):
    new = f'pyro.sample("z", pyro.distributions.StudentT(5.0, {NORMAL}.mean, 1.0).to_event(1))'
    assert "no closed-form KL of StudentT" in sentence(GUIDE_SITE, new, MeanField)[0]


class Line(nn.Module):
    """z ~ N(0, 1), x ~ N(z, 1); what it gets beyond its arguments it does not see."""

    def __init__(self, shift=0.0):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor([shift]))

    def forward(self, library, x=None, *more, **others):
        assert not more and not others
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z + self.shift, 1.0).to_event(1), obs=x)


class LineGuide(nn.Module):
    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(1))

    def forward(self, library, x=None):
        pyro.sample("seen", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
        with pyro.plate("cells", len(library)):
            pyro.sample("z", dist.Normal(self.loc, 1.0).to_event(1))


class Inherited(Line):
    """Nothing of its own: its lines are those of its base."""


def check(kind, model=None, cells=4):
    rows = {"library": torch.ones(cells, 1), "x": torch.ones(cells, 1), "label": torch.ones(cells)}
    objective = kind(model or Line(), LineGuide(), cells=cells)
    before = {name: tensor.clone() for name, tensor in objective.named_buffers()}
    check_story(objective, rows)
    assert all(torch.equal(before[name], t) for name, t in objective.named_buffers())


def test_more_arguments_and_auxiliary_sites_of_all_cells_are_fine():
    check(ELBO), check(IWAE), check(ELBO, Inherited())


def test_the_line_of_a_base_is_given_where_a_class_has_none():
    with pytest.raises(
        ValueError, match=r"^test_lint\.py, line \d+: site 'z' of Inherited is sca"
    ):
        check(ELBO, poutine_scaled(Inherited()))


def poutine_scaled(model):
    forward = model.forward
    model.forward = poutine.scale(forward, 0.5)
    return model


class Sound(ELBO):
    """Keeps a running mean as a buffer, detached."""

    def __init__(self, model, guide, *, cells):
        super().__init__(model, guide, cells=cells)
        self.register_buffer("mean", torch.tensor(0.0), persistent=False)
        self.names, self.last = ["a"], None

    def forward(self, **batch):
        loss = super().forward(**batch)
        self.mean = 0.9 * self.mean + 0.1 * loss.detach()
        return loss - self.mean


class Undetached(Sound):
    def forward(self, **batch):
        loss = super().forward(**batch)
        self.mean = self.mean + loss  # undetached
        return loss


class UndetachedInList(Sound):
    def forward(self, **batch):
        self.last = [super().forward(**batch)]  # kept in a list
        return self.last[0]


class Frozen(Sound):
    def __init__(self, model, guide, *, cells):
        super().__init__(model, guide, cells=cells)
        self.weight = 0.5  # frozen

    def forward(self, **batch):
        return self.weight * super().forward(**batch)


class FrozenLater(Sound):
    def forward(self, **batch):
        loss = super().forward(**batch)
        self.last = loss.item()  # frozen later
        return loss


class Item(Sound):
    def forward(self, **batch):  # gives a float
        return super().forward(**batch).item()


class PerCell(Sound):
    def forward(self, **batch):  # gives many
        return self.per_cell(**batch)


class OneBound(Sound):
    def per_cell(self, **batch):  # gives one
        return super().per_cell(**batch).mean()


class Raises(Sound):
    def forward(self, **batch):
        return batch["dose"]  # raises


KEPT = {
    Undetached: ("# undetached", r"Undetached\.mean keeps the graph .*\.detach\(\)"),
    UndetachedInList: ("# kept in a list", r"UndetachedInList\.last keeps the graph"),
    Frozen: ("# frozen", r"holds the float weight = 0\.5.*register_buffer\('weight'"),
    FrozenLater: ("# frozen later", "holds the float last = "),
    Item: ("# gives a float", "no dimensions with its gradient: got float"),
    PerCell: ("# gives many", r"no dimensions with its gradient: got \[4\]"),
    OneBound: ("# gives one", r"one number a cell, \[4\]: got \[\]"),
    Raises: ("# raises", r"Raises\.forward raised KeyError: 'dose'"),
}


def test_a_sound_objective_of_ones_own_passes_and_is_left_as_it_was():
    check(Sound)


@pytest.mark.parametrize("kind", KEPT)
def test_an_objective_of_ones_own_is_tried(kind):
    part, words = KEPT[kind]
    lines = Path(__file__).read_text().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if line.endswith(part))
    with pytest.raises(ValueError, match=rf"^test_lint\.py, line {number}: .*{words}"):
        check(kind)
