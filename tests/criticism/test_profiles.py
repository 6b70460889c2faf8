"""A story without latent states of cells is evaluated and criticised, state sections left out."""

import dataclasses
import io

import pyro
import pytest
import torch
from rich.console import Console
from torch import nn

import pgm_expr
from pgm_expr import evaluation, report
from pgm_expr.criticism.pages import criticism_page, html_report
from pgm_expr.criticism.record import pictures
from pgm_expr.criticism.sections import SECTIONS
from pgm_expr.data import sweep
from pgm_expr.evaluation.guide.health import log_weights
from pgm_expr.evaluation.guide.sites import has_states
from pgm_expr.parts import NegativeBinomial

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")
OF_STATES = {"health", "reference", "sbc", "structure", "explained", "mixing", "novelty"}
REQUIRED = "requires a latent state of cells: Regression has none"


class Regression(nn.Module):
    """x_ng ~ NB(library_n softmax(w batch_n)_g, theta_g)."""

    def __init__(self, genes, batches):
        super().__init__()
        self.coefficients = nn.Embedding(batches, genes)
        self.likelihood = NegativeBinomial(genes)

    def forward(self, library, batch, x=None):
        with pyro.plate("cells", len(library)):
            eta = self.coefficients(batch)
            return pyro.sample("x", self.likelihood(eta, library), obs=x)


class NoLatents(nn.Module):
    """Nothing to infer."""

    def forward(self, library, batch, x=None):
        pass


@pytest.fixture(scope="module")
def run(folder):
    """The run on simulated cells, its pair replaced by a regression on the batch."""
    run = pgm_expr.load(folder / "run")
    torch.manual_seed(0)
    model = Regression(run.notes["dims"]["genes"], 2)
    return dataclasses.replace(run, model=model, guide=NoLatents(), folder=None, metrics={})


def test_the_weights_of_a_cell_are_its_likelihood(run):
    cells = run.training_cells()
    batch = next(iter(run.unlabelled(cells)))
    assert not has_states(run.model, run.guide, batch)
    weights = log_weights(run.model, run.guide, batch, 5)
    site = pyro.poutine.trace(run.model).get_trace(batch["library"], batch["batch"], batch["x"])
    expected = site.nodes["x"]["fn"].log_prob(batch["x"]).double()
    assert torch.allclose(weights, expected.expand(5, -1), rtol=1e-5)


def test_it_is_evaluated_without_latent_use_and_probes(run):
    figures = run.evaluate()
    assert figures["kl"] == figures["active_units"] == 0 and figures["collapse"] is None
    assert figures["heldout_elbo"] == pytest.approx(figures["heldout_iwae"], abs=1e-3)
    assert figures["kl_per_dimension"] == [] and figures["probe_macro_f1"] is None
    assert [row["model"] for row in figures["table"]] == ["story", "gene_nb", "label_nb"]
    console = Console(file=io.StringIO(), width=120)
    console.print(report.metrics_page(figures))
    assert "No latent state of cells" in console.file.getvalue()
    with pytest.raises(ValueError, match=REQUIRED):
        run.evaluate(refine=2)


def test_it_is_compared_by_its_likelihood(run):
    table, cells = run.training_table(), run.training_cells()

    def held_out():
        return sweep(cells, table.split.test, 64)

    tensors, figures = evaluation.score(
        run.model, run.guide, lambda: [], held_out, validation=held_out, labels=0, draws=3
    )
    assert torch.allclose(tensors["iwae"], tensors["iwae_4k"], rtol=1e-5)
    assert figures == {"kl": 0.0, "active_units": 0, "collapse": None, "probe_macro_f1": None}


def test_it_is_criticised_and_reported(run):
    found = run.criticize(cells=60, draws=100, progress=False)
    why = found["not_measured"]
    assert all(REQUIRED in why[name] for name in OF_STATES)
    measured = {section.name for section in SECTIONS} - {*why}
    assert {"heldout", "ppc", "calibration", "typicality", "differential"} <= measured
    assert found["heldout"]["refined_elbo"] is None
    console = Console(file=io.StringIO(), width=120)
    console.print(criticism_page(found))
    assert f"Not measured: sbc: {REQUIRED}" in console.file.getvalue()
    assert "latent.png" not in pictures(run)
    given = dict(name="profiles", notes=run.notes, history=run.history, criticism=found)
    assert html_report([given]).count(REQUIRED) >= len(OF_STATES)
