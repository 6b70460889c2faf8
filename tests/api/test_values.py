"""Stories of log values, and of another measure than counts given the library."""

import math

import numpy as np
import pytest
import scipy.sparse as sp

import pgm_expr
from pgm_expr import simulate

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")  # of few epochs

SMALL = dict(latent=2, hidden=8, epochs=4, labels_key="type", progress=False)


@pytest.fixture
def adata():
    """Counts in X, log-normalised values in a layer."""
    adata = simulate.simulate(300, 30, seed=0, types=2, median_library=900.0).to_anndata()
    x = adata.X.toarray().astype(float)
    adata.layers["log"] = sp.csr_matrix(np.log1p(1e4 * x / x.sum(1, keepdims=True)))
    adata.layers["scaled"] = adata.layers["log"].toarray() - 1.0
    return adata


def test_log_values_are_fitted_judged_and_embedded(adata, tmp_path):
    run = pgm_expr.fit(adata, layer="log", likelihood="gaussian", out=tmp_path / "run", **SMALL)
    figures = run.evaluate()
    assert figures["measure"] == "values" and math.isfinite(figures["heldout_iwae"])
    assert [row["model"] for row in figures["table"]] == ["story", "pca"]  # no baseline of counts
    again = pgm_expr.load(tmp_path / "run")
    assert np.array_equal(again.embed(adata), run.embed(adata))
    assert not np.array_equal(run.sample(20).X.toarray() % 1, 0)


@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian-mixture", "gaussian-low-rank"])
def test_counts_are_no_log_values(adata, likelihood):
    with pytest.raises(ValueError, match="must hold log values: found whole counts"):
        pgm_expr.fit(adata, likelihood=likelihood, **SMALL)


def test_scaled_values_are_refused(adata):
    with pytest.raises(ValueError, match="at least 0: found -"):
        pgm_expr.fit(adata, layer="scaled", likelihood="gaussian", **SMALL)


def test_log_values_are_no_counts(adata):
    with pytest.raises(ValueError, match="must hold raw counts"):
        pgm_expr.fit(adata, layer="log", likelihood="rounded-gaussian", **SMALL)


def test_variable_genes_of_log_values(adata):
    run = pgm_expr.fit(adata, layer="log", likelihood="gaussian", n_top_genes=10, **SMALL)
    assert run.notes["dims"]["genes"] == 10


@pytest.mark.parametrize("likelihood", ["bernoulli", "dirichlet-multinomial"])
def test_another_measure_has_no_baseline_of_counts(adata, likelihood):
    figures = pgm_expr.fit(adata, likelihood=likelihood, **SMALL).evaluate()
    assert figures["measure"] != "counts given library"
    assert not [name for name in figures if name.startswith("baseline")]
    assert figures["zero_rate_mae"] < 0.5 and math.isfinite(figures["zero_rate_floor"])


def test_an_inferred_library_is_given_where_one_is_asked_for(adata):
    """Draws and normalised expression of the story that infers it are at the library named."""
    run = pgm_expr.fit(adata, "latent_library", **SMALL)
    totals = [run.sample(300, library=np.full(300, size)).X.sum(1).mean() for size in (300, 600)]
    assert totals[0] == pytest.approx(300, rel=0.1) and totals[1] == pytest.approx(600, rel=0.1)
    assert np.allclose(run.normalized_expression(adata, library=50.0).sum(1), 50.0, rtol=1e-4)
    assert run.embed(adata).shape == (300, 2)  # the library is no part of the state


def test_the_amortisation_gap_is_told_where_asked_for(fitted):
    run = fitted("vae")
    assert "amortisation_gap" not in run.evaluate()
    figures = run.evaluate(refine=30)
    assert figures["amortisation_gap"] > 0 and figures["refinement_steps"] == 30
