"""The offset story: counts about a composition that another model predicts."""

import pytest
import torch
from pyro import poutine

import pgm_expr
from pgm_expr import simulate
from pgm_expr.guides import OffsetGuide
from pgm_expr.models import Offset
from pgm_expr.tasks.hybrid import fit_counts

CELLS, GENES = 6, 8
SIZES = dict(genes=GENES, conditions=3, latent=2, hidden=4)


@pytest.fixture
def batch():
    noise = torch.Generator().manual_seed(0)
    x = torch.poisson(torch.full((CELLS, GENES), 5.0), noise) + 1
    return {"x": x, "library": x.sum(-1, keepdim=True), "condition": torch.eye(3).repeat(2, 1)}


def mean(model, batch, z):
    with poutine.trace() as recorded, poutine.condition(data={"z": z}):
        model(**batch)
    return recorded.trace.nodes["x"]["fn"].base_dist.mean


def test_the_offset_is_a_log_fold_change_of_the_composition(batch):
    """Means with an offset are the means without, times exp(offset), renormalised."""
    torch.manual_seed(0)
    model, z = Offset(**SIZES).eval(), torch.randn(CELLS, 2)
    offset = torch.randn(CELLS, GENES)
    changed = mean(model, batch, z) * offset.exp()
    expected = batch["library"] * changed / changed.sum(-1, keepdim=True)
    found = mean(model, batch | {"offset": offset}, z)
    assert torch.allclose(found, expected, rtol=1e-4)


def test_no_offset_is_an_offset_of_zero(batch):
    torch.manual_seed(0)
    model, z = Offset(**SIZES).eval(), torch.randn(CELLS, 2)
    zeros = torch.zeros(CELLS, GENES)
    assert torch.equal(mean(model, batch, z), mean(model, batch | {"offset": zeros}, z))


def test_it_is_fitted_like_any_story():
    adata = simulate.simulate(120, 20, seed=0, types=2, conditions=2).to_anndata()
    run = pgm_expr.fit(
        adata,
        "offset",
        categorical_covariate_keys=["condition"],
        latent=2,
        hidden=8,
        epochs=2,
        progress=False,
    )
    assert run.embed(adata).shape == (120, 2)
    assert run.evaluate()["table"]


def test_it_needs_covariates():
    adata = simulate.simulate(60, 20, seed=0).to_anndata()
    with pytest.raises(ValueError, match="categorical_covariate_keys"):
        pgm_expr.fit(adata, "offset", epochs=1, progress=False)


def test_the_hybrid_is_built_of_it():
    truth = simulate.simulate(60, GENES, seed=0, types=3)
    x, c = torch.from_numpy(truth.x).float(), torch.eye(3)[torch.from_numpy(truth.type)]
    hybrid = fit_counts(c, x, generator=None, plan=pgm_expr.inference.Plan(epochs=1))
    assert type(hybrid.model) is Offset and type(hybrid.guide) is OffsetGuide
