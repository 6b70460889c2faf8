"""A run folder that version 0.5.0 wrote loads, and gives the figures that 0.5.0 gave."""

import json
from pathlib import Path

import numpy as np
import pytest
from anndata import read_h5ad

import pgm_expr
from pgm_expr import evaluation
from pgm_expr.data import sweep
from pgm_expr.predict import withheld
from pgm_expr.runs.formats import FORMAT

HERE = Path(__file__).parent
FIGURES = json.loads((HERE / "figures.json").read_text())  # of 0.5.0, on one thread


@pytest.fixture(scope="module")
def adata():
    return read_h5ad(HERE / "cells.h5ad")


@pytest.fixture
def run():
    return pgm_expr.load(HERE / "run_0_5_0", device="cpu")


def test_its_format_is_older_and_its_columns_are_fields(run):
    assert "format" not in run.notes and FORMAT > 0
    kinds = [field.kind for field in run.encoding.fields]
    assert kinds == ["label", "batch", "categorical_covariate", "continuous_covariate"]
    assert run.encoding.labels == ("type0", "type2")


def test_states_are_the_same(run, adata):
    np.testing.assert_allclose(run.embed(adata), FIGURES["embedding"], rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:posterior collapse")
def test_figures_are_the_same(run, adata):
    found = run.evaluate(adata)
    for name, value in FIGURES["metrics"].items():
        if name == "table":
            continue
        if name == "collapse":  # a sentence
            assert bool(found[name]) == bool(value)
            continue
        if name == "heldout_elbo":  # of one draw per cell then, of many since 0.7
            cells, held_out = run.held_out(adata)
            batches = withheld(sweep(cells.withheld(), held_out, 64))
            once = evaluation.elbo(run.model, run.guide, batches, run.story.objective)
            assert once.mean().item() == pytest.approx(value, rel=1e-5)
            assert abs(found[name] - value) < 4 * once.std().item() / len(held_out) ** 0.5
            continue
        same = value if isinstance(value, str | None) else pytest.approx(value, rel=1e-5, abs=1e-6)
        assert found[name] == same, name


def test_donors_stayed_whole_in_its_split(run, adata):
    split = run.training_table(adata).split
    donors = adata.obs["donor"].to_numpy()
    assert [len(getattr(split, part)) for part in ("train", "validation", "test")] == [80, 18, 22]
    assert not set(donors[split.test]) & set(donors[split.development])


@pytest.mark.filterwarnings("ignore:.*learnt from")
def test_draws_are_the_same(run, adata):
    assert (
        run.sample(5, condition={"stim": "yes"}, seed=1).X.toarray().tolist()
        == (FIGURES["sample"])
    )
    assert run.generate(5, by="flow", seed=2).X.toarray().tolist() == FIGURES["generated"]


def test_counterfactuals_are_the_same(run, adata):
    condition = {"batch": adata.obs["batch"].iloc[0], "age": "60"}
    found = run.normalized_expression(adata[:5], condition=condition)
    np.testing.assert_allclose(found, FIGURES["counterfactual"], rtol=1e-4)


def test_a_run_of_a_later_format_is_refused_by_name(run, tmp_path):
    run.save(tmp_path / "run")
    notes = json.loads((tmp_path / "run" / "story.json").read_text())
    (tmp_path / "run" / "story.json").write_text(json.dumps(notes | {"format": FORMAT + 1}))
    with pytest.raises(ValueError, match=f"format {FORMAT + 1}.*up to {FORMAT}.*Update"):
        pgm_expr.load(tmp_path / "run")
