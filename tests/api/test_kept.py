"""What a verb keeps with a stored run it keeps itself, whoever calls it."""

import json
import shutil

import numpy as np
import pytest

import pgm_expr
from pgm_expr import simulate

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")


@pytest.fixture(scope="module")
def adata():
    adata = simulate.simulate(150, 20, seed=0, types=2, median_library=300.0).to_anndata()
    adata.obs["donor"] = np.random.default_rng(0).choice(list("abcde"), adata.n_obs)
    return adata


@pytest.fixture(scope="module")
def stored(adata, tmp_path_factory):
    place = tmp_path_factory.mktemp("kept")
    adata.write_h5ad(place / "cells.h5ad")
    sizes = dict(latent=2, hidden=8, epochs=5, progress=False)
    pgm_expr.fit(place / "cells.h5ad", out=place / "run", donor_key="donor", **sizes)
    return place / "run"


@pytest.fixture
def run(stored, tmp_path):
    return pgm_expr.load(shutil.copytree(stored, tmp_path / "run"))


def test_figures_of_the_test_cells_are_kept_and_loaded_again(run):
    found = run.evaluate()
    kept = json.loads((run.folder.path / "metrics.json").read_text())
    assert kept == json.loads(json.dumps(found))
    assert pgm_expr.load(run.folder.path).metrics == kept


def test_figures_of_other_cells_are_not_kept(run, adata):
    other = adata.copy()
    other.obs_names = [f"other-{name}" for name in adata.obs_names]
    run.evaluate(other)
    assert not (run.folder.path / "metrics.json").exists()


def test_a_generator_is_kept_by_the_verb(run):
    drawn = run.learn("flow", steps=3, progress=False).generate(5, by="flow", seed=1)
    again = pgm_expr.load(run.folder.path).generate(5, by="flow", seed=1)
    assert (drawn.X != again.X).nnz == 0


def test_criticism_is_kept_when_it_is_whole(run):
    run.criticize(cells=20, draws=100, sections=["typicality"], progress=False)
    assert not (run.folder.path / "criticism.json").exists()


def test_a_changed_guide_or_prior_is_kept_nowhere_before_it_is_saved(run):
    path = run.folder.path
    assert run.learn_prior("mog", steps=2, progress=False).folder is None
    run.sleep(2, progress=False).evaluate()
    assert run.folder is None and not (path / "metrics.json").exists()


def test_a_folder_that_is_gone_loses_no_result(run):
    run.training_table()
    shutil.rmtree(run.folder.path)
    with pytest.warns(UserWarning, match="metrics.json could not be written"):
        assert run.evaluate()["heldout_elbo"] < 0
    with pytest.warns(UserWarning, match="generator-flow.safetensors could not be written"):
        run.learn("flow", steps=2, progress=False)
    assert "flow" in run.generators
