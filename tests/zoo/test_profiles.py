"""Stories whose unit is profiles: bulk samples, or groups of cells, without a latent state."""

import warnings

import numpy as np
import pytest
import torch
from scipy import stats

import pgm_expr
from pgm_expr import simulate, zoo
from pgm_expr.cli import main as cli
from pgm_expr.inference import latent_use, sleep
from pgm_expr.zoo import Story

REGRESSION = '''r"""Negative binomial regression: what the condition does to each gene.

    x_ng ~ NegativeBinomial(mean = library_n softmax(log average + c_n effects), theta_g)

    site  kind      plate  event
    x     observed  cells  (G,)
"""

import pyro
from pyro.nn import PyroModule
from torch import nn

from pgm_expr import Story
from pgm_expr.parts import NegativeBinomial


class Regression(PyroModule):
    def __init__(self, genes, conditions, average=None):
        super().__init__("Regression")
        self.effects = nn.Linear(conditions, genes)
        self.likelihood = NegativeBinomial(genes, average)

    def forward(self, library, condition, x=None):
        with pyro.plate("cells", len(library)):
            eta = self.effects(condition)
            return pyro.sample("x", self.likelihood(eta, library), obs=x)


class Nothing(PyroModule):
    def forward(self, library, condition, x=None):
        pass


story = Story(model=Regression, guide=Nothing, unit="profiles")
'''
FIT = dict(categorical_covariate_keys=["type"], labels_key="type", epochs=150, progress=False)
STATES = "requires a latent state of cells: the unit of the story bulk is profiles"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """bulk.py, data.h5ad, and a run of the one on the other."""
    folder = tmp_path_factory.mktemp("profiles")
    (folder / "bulk.py").write_text(REGRESSION)
    truth = simulate.simulate(150, 20, seed=0, types=2, median_library=3000.0)
    truth.to_anndata().write_h5ad(folder / "data.h5ad")
    pgm_expr.fit(folder / "data.h5ad", folder / "bulk.py", out=folder / "run", **FIT)
    return folder


@pytest.fixture
def run(folder):
    return pgm_expr.load(folder / "run", folder / "bulk.py")


@pytest.fixture
def pair(folder):
    """An untrained pair and some profiles."""
    torch.manual_seed(0)
    story = zoo.load_story(folder / "bulk.py")
    pair = zoo.build(story, {"genes": 6, "conditions": 2})
    x = torch.poisson(torch.full((9, 6), 7.0))
    rows = {"x": x, "library": x.sum(-1, keepdim=True), "condition": torch.randn(9, 2)}
    return *pair, rows


def test_the_unit_of_a_story_is_cells_unless_stated(folder):
    assert {story.unit for story in zoo.STORIES.values()} == {"cells"}
    assert zoo.load_story(folder / "bulk.py").unit == "profiles"
    with pytest.raises(ValueError, match="unit of a story must be cells or profiles: got 'bulk'"):
        Story(zoo.story("vae").model, zoo.story("vae").guide, unit="bulk")


@pytest.mark.parametrize("name", ["elbo", "trace-3", "mean-field", "iwae-5", "renyi-0.5-4"])
def test_every_bound_is_the_likelihood(name, pair):
    """By scipy, as nothing is latent."""
    model, guide, rows = pair
    with torch.no_grad():
        eta = model.effects(rows["condition"]).double()
    mean = rows["library"].double() * eta.softmax(-1)  # theta is 1 before training
    exact = stats.nbinom(1.0, 1 / (1 + mean.numpy())).logpmf(rows["x"].numpy()).sum(-1)
    objective = zoo.objective(name)(model, guide, cells=9)
    assert np.allclose(objective.per_cell(**rows).detach().numpy(), exact, rtol=1e-5)
    assert objective(**rows).item() == pytest.approx(-exact.mean(), rel=1e-5)


def test_no_state_is_in_use_and_none_collapsed(pair):
    model, guide, rows = pair
    use = latent_use(zoo.objective("elbo")(model, guide, cells=9), [rows, rows])
    assert use.locs == use.kls == {} and use.loc.numel() == use.kl.numel() == 0
    assert use.active_units == 0 and use.verdict() is None


def test_a_guide_without_parameters_is_not_put_to_sleep(pair):
    model, guide, rows = pair
    with pytest.raises(ValueError, match="requires a guide with parameters: Nothing has none"):
        next(sleep(model, guide, [rows], 1))


def test_it_learns_the_effects_of_types(run):
    """Held-out profiles are likelier than under their average; no collapse is reported."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = run.evaluate()
    assert figures["collapse"] is None and figures["probe_macro_f1"] is None
    assert figures["heldout_elbo"] == pytest.approx(figures["heldout_iwae"], rel=1e-5)
    assert figures["heldout_elbo"] > figures["baseline_gene_nb"]
    assert figures["kl"] == 0 and figures["kl_per_dimension"] == []


def test_it_draws_and_predicts_expression(run, folder):
    assert run.sample(5, seed=1).shape == (5, 20)
    expressed = run.normalized_expression(folder / "data.h5ad", library=10.0)
    assert np.allclose(expressed.sum(1), 10.0, rtol=1e-4)


REFUSED = {
    "embed": lambda run, data: run.embed(data),
    "diffusion": lambda run, data: run.generate(3),
    "sleep": lambda run, data: run.sleep(3, progress=False),
    "refine": lambda run, data: run.evaluate(refine=3),
}


@pytest.mark.parametrize("verb", REFUSED)
def test_what_is_about_states_is_refused_in_one_line(verb, run, folder):
    with pytest.raises(ValueError, match=f"^{verb} {STATES}") as caught:
        REFUSED[verb](run, folder / "data.h5ad")
    assert "\n" not in str(caught.value)


def test_criticism_says_which_sections_need_states(run):
    found = run.criticize(cells=20, draws=100, progress=False)
    about = {"health", "reference", "sbc", "structure", "explained", "novelty"}
    assert {name for name, why in found["not_measured"].items() if STATES in why} == about
    assert found.keys() >= {"heldout", "ppc", "typicality", "differential"}


@pytest.mark.parametrize("line", ["evaluate run", "criticize run --cells 20 --draws 100"])
def test_the_command_line_judges_it(line, folder, capsys, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as stop:
        cli.main(f"{line} --story bulk.py".split())
    printed, err = capsys.readouterr()
    assert stop.value.code in (0, 1, None) and printed and "Traceback" not in err


WRONG = {
    "no latent": (', unit="profiles"', "", "Regression has no latent state of cells"),
    "a latent": (
        "            eta = self.effects(condition)\n",
        "            eta = self.effects(condition)\n"
        '            pyro.sample("z", dist.Normal(eta.new_zeros(1), 1).to_event(1))\n',
        "site 'z' of Regression is a latent of every row",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_unit_that_does_not_fit_is_refused(kind, folder, tmp_path):
    old, new, why = WRONG[kind]
    text = REGRESSION.replace(old, new)
    if kind == "a latent":
        text = text.replace("import pyro\n", "import pyro\nimport pyro.distributions as dist\n")
        drawn = (
            '        with pyro.plate("cells", len(library)):\n'
            '            pyro.sample("z", dist.Normal(library.new_zeros(1), 1).to_event(1))\n'
        )
        text = text.replace("        pass\n", drawn)
    (tmp_path / "bulk.py").write_text(text)
    with pytest.raises(ValueError, match=rf"^bulk\.py, line \d+: {why}.* Write unit="):
        pgm_expr.fit(folder / "data.h5ad", tmp_path / "bulk.py", out=tmp_path / "run", **FIT)
    assert not (tmp_path / "run").exists()


def test_a_new_file_states_its_unit(monkeypatch, tmp_path, folder):
    bulk = zoo.load_story(folder / "bulk.py")
    monkeypatch.setitem(zoo.STORIES, "bulk", bulk)
    zoo.new(tmp_path / "mine.py", "bulk")
    assert zoo.load_story(tmp_path / "mine.py").unit == "profiles"
