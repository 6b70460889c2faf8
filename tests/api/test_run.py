"""What a fitted run answers: latents, expression, draws, metrics, pictures."""

import json
from contextlib import contextmanager

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from anndata import concat, read_h5ad

import pgm_expr
from pgm_expr import evaluation, simulate

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")  # of few epochs

LATENT, GENES, CELLS = 3, 30, 150
METRICS = {
    "heldout_elbo",
    "heldout_iwae",
    "heldout_iwae_se",
    "heldout_iwae_2000",
    "kl",
    "active_units",
    "probe_macro_f1",
    "pca_probe_macro_f1",
    "zero_rate_mae",
    "zero_rate_floor",
    "baseline_gene_nb",
}


@pytest.fixture(scope="module")
def cells(fitted):
    return read_h5ad(fitted.data("vae"))


@pytest.fixture
def adata(cells):
    return cells.copy()


@pytest.fixture
def run(fitted):
    return fitted("vae")


@pytest.fixture(scope="module")
def few():
    """60 cells and 20 genes, of which a fit takes a moment and keeps nothing on disk."""
    return simulate.simulate(60, 20, seed=0, types=2, median_library=2000.0).to_anndata()


def fit(data, **options):
    sizes = dict(latent=LATENT, hidden=16, epochs=2, learning_rate=5e-3, progress=False)
    return pgm_expr.fit(data, **sizes | options)


@pytest.fixture(scope="module")
def metrics(fitted):
    """The figures of the shared run."""
    return fitted("vae").evaluate()


def counts(adata):
    return torch.tensor(adata.X.toarray())


def put(adata, where, value):
    """Change counts in place."""
    dense = adata.X.toarray()
    dense[where] = value
    adata.X = sp.csr_matrix(dense)


def test_embed_is_the_mean_of_the_guide(run, adata):
    latent = run.embed(adata)
    assert not run.model.training and not run.guide.training
    with torch.no_grad():
        exact = run.guide.posterior.loc(run.guide.encode(counts(adata).log1p()))
    assert latent.shape == (CELLS, LATENT) and np.allclose(latent, exact, atol=1e-6)
    assert np.array_equal(adata.obsm["X_pgm_vae"], latent) and run.key == "X_pgm_vae"


def test_embed_takes_genes_in_any_order(run, adata):
    latent = run.embed(adata)
    shuffled = adata[:, ::-1].copy()
    assert np.array_equal(run.embed(shuffled), latent)
    dense = adata.copy()
    dense.X = np.asfortranarray(adata.X.toarray().astype(np.float64))
    assert np.array_equal(run.embed(dense), latent)


def test_embed_does_not_mind_the_batches_of_cells(run, adata):
    """Alone, together, and among more cells than are embedded at a time (512)."""
    latent = run.embed(adata)
    many = concat([adata] * 5, index_unique="-")
    assert np.allclose(run.embed(many), np.tile(latent, (5, 1)), atol=1e-6)
    assert np.allclose(run.embed(adata[:1].copy()), latent[:1], atol=1e-6)


def test_a_missing_gene_counts_as_zero_and_is_told(run, adata):
    without = adata[:, 1:].copy()
    with pytest.warns(UserWarning, match=f"1 of the {GENES} modelled genes.*gene0"):
        latent = run.embed(without)
    put(adata, np.s_[:, 0], 0)
    assert np.array_equal(run.embed(adata), latent)


def test_foreign_genes_are_refused(run, adata):
    adata.var_names = [f"other{g}" for g in range(GENES)]
    with pytest.raises(ValueError, match="modelled genes"):
        run.embed(adata)
    assert "X_pgm_vae" not in adata.obsm


def test_an_unseen_batch_is_refused(run, adata):
    adata.obs["batch"] = "batch7"
    with pytest.raises(ValueError, match="'batch7'"):
        run.embed(adata)
    del adata.obs["batch"]
    with pytest.raises(ValueError, match="'batch'"):
        run.embed(adata)


def test_an_unseen_label_is_no_label(run, adata):
    latent = run.embed(adata)
    adata.obs["type"] = "type7"
    with pytest.warns(UserWarning, match="'type7'"):
        assert np.array_equal(run.embed(adata), latent)
    del adata.obs["type"]
    assert np.array_equal(run.embed(adata), latent)


def test_a_cell_without_counts_is_refused(run, adata):
    put(adata, 4, 0)
    with pytest.raises(ValueError, match="'cell4'"):
        run.embed(adata)


def test_logged_values_are_refused(run, adata):
    adata.X = adata.X.log1p()
    with pytest.raises(ValueError, match="raw counts|fraction|log"):
        run.embed(adata)


@pytest.mark.parametrize("library", [1.0, 1e4])
def test_normalized_expression_adds_up_to_the_library(run, adata, library):
    expected = run.normalized_expression(adata, library=library, draws=2)
    assert expected.shape == (CELLS, GENES) and (expected >= 0).all()
    assert np.allclose(expected.sum(1), library, rtol=1e-5)


def test_normalized_expression_is_near_the_data(run, adata):
    """Each gene's mean share over cells, within four of its standard errors."""
    x = counts(adata)
    shares = (x / x.sum(1, keepdim=True)).numpy()
    error = shares.std(0) / CELLS**0.5
    away = run.normalized_expression(adata).mean(0) - shares.mean(0)
    assert (np.abs(away) < 4 * error).all()
    assert np.median(np.abs(1 / GENES - shares.mean(0)) / error) > 4  # an even share would not


def test_samples_are_counts_by_gene(run, adata):
    drawn = run.sample(700)
    assert drawn.shape == (700, GENES) and list(drawn.var_names) == list(adata.var_names)
    assert np.issubdtype(drawn.X.dtype, np.integer) and drawn.X.min() >= 0
    library = counts(adata)[run.table.split.train].sum(1).numpy()
    drawn_library = drawn.obs["library"].to_numpy()
    assert library.min() <= drawn_library.min() and drawn_library.max() <= library.max()
    middle = np.median(drawn_library)
    assert np.quantile(library, 0.4) < middle < np.quantile(library, 0.6)


# 4 standard errors of a mean over 2,000 cells: fails for 1 seed in 16,000.
def test_samples_have_the_library_asked_for(run):
    library = np.full(2000, 300.0)
    drawn = run.sample(2000, library=library)
    total = np.asarray(drawn.X.sum(1)).ravel()
    assert abs(total.mean() - 300) < 4 * total.std() / 2000**0.5
    assert np.array_equal(drawn.obs["library"], library)


def test_samples_have_a_seed(run):
    first, again, other = (run.sample(5, seed=seed).X.toarray() for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_evaluate_judges_the_test_cells(run, metrics):
    assert metrics.keys() >= METRICS
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert (metrics["seed"], metrics["split_seed"]) == (0, 0)
    assert metrics["cells_per_second"] > 0
    batch = run.table.cells.rows(run.table.split.test)
    torch.manual_seed(0)
    with torch.no_grad():
        bounds = [run.objective().eval().per_cell(**batch).mean().item() for _ in range(200)]
    assert abs(metrics["heldout_elbo"] - np.mean(bounds)) < 5 * np.std(bounds)
    assert metrics["heldout_iwae"] > np.mean(bounds)


def test_evaluate_takes_other_cells(run):
    """And judges them all: their mean bound, by the first draws of the same noise."""
    truth = simulate.simulate(30, GENES, seed=1, types=2, batches=2, median_library=2000.0)
    new = truth.to_anndata()
    new.obs_names = "new-" + new.obs_names
    metrics = run.evaluate(new)
    batches = run.unlabelled(run.query(new), np.arange(30))
    bounds = evaluation.iwae(run.model, run.guide, batches, (500,))[500]
    assert len(bounds) == 30 and metrics["heldout_iwae"] == pytest.approx(bounds.mean().item())


def test_evaluate_takes_more_cells_than_trained(few):
    run, new = fit(few), few.copy()
    new.obs_names = "new-" + new.obs_names
    figures = run.evaluate(new)
    assert np.isfinite(figures["heldout_iwae"]) and run.metrics is figures


def test_evaluate_without_labels(fitted):
    metrics = fitted("shift").evaluate()
    assert metrics["probe_macro_f1"] is None is metrics["pca_probe_macro_f1"]


@pytest.mark.filterwarnings("default:posterior collapse")
def test_a_collapsed_run_is_told_at_evaluation(few):
    run = fit(few, epochs=1, learning_rate=1e-9)
    with pytest.warns(pgm_expr.api.PosteriorCollapse):
        assert "posterior collapse" in run.evaluate()["collapse"]


ANSWERS = {
    "embed": lambda run, adata: run.embed(adata),
    "normalized_expression": lambda run, adata: run.normalized_expression(adata),
    "sample": lambda run, adata: run.sample(5).X.toarray(),
}


@contextmanager
def generators_left(seed):
    """The caller's generators, of that seed, are where they were."""
    torch.manual_seed(seed), np.random.seed(seed)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    yield
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()


def answered(run, adata, verb):
    """What a verb answers, twice."""
    for seed in (1, 2):
        with generators_left(seed):
            yield ANSWERS[verb](run, adata)


@pytest.mark.parametrize("verb", ANSWERS)
def test_answers_repeat_and_leave_the_generators(run, adata, verb):
    assert np.array_equal(*answered(run, adata, verb))


def test_figures_repeat_and_leave_the_generators(run, metrics):
    with generators_left(3):
        assert run.evaluate() == metrics


@pytest.mark.parametrize("objective", ["trace", "iwae-50"])
def test_a_run_of_another_objective_is_judged_by_the_elbo(few, objective):
    """One more particle in training does not flatter `heldout_elbo`; the KL stays by dimension."""
    run, figures = fit(few, objective=objective), []
    for seed in (1, 2):
        with generators_left(seed):
            figures.append(run.evaluate())
    batches = [run.table.cells.rows(run.table.split.test)]
    elbo = evaluation.elbo(run.model, run.guide, batches).mean().item()
    assert figures[0] == figures[1]
    assert figures[0]["heldout_elbo"] == pytest.approx(elbo, abs=0.5)
    assert len(figures[0]["kl_per_dimension"]) == LATENT
    assert all(np.array_equal(*answered(run, few.copy(), verb)) for verb in ANSWERS)


def test_embed_of_a_sparse_array(run, adata):
    latent = run.embed(adata)
    adata.X = sp.csc_matrix(adata.X)
    assert np.array_equal(run.embed(adata), latent)


def test_the_data_of_the_fit_given_again_are_judged_on_the_test_cells(run, adata, metrics):
    """Training cells never pass for held-out ones."""
    assert run.evaluate(adata) == metrics


def test_cells_of_the_fit_among_others_are_told(run, adata):
    with pytest.warns(UserWarning, match="names of cells in the fit"):
        run.evaluate(adata[:20].copy())


def test_a_loaded_run_takes_the_data_it_cannot_find_again(few, tmp_path):
    run = fit(few)
    run.save(tmp_path / "run")
    loaded = pgm_expr.load(tmp_path / "run")
    with pytest.raises(ValueError, match="in memory"):
        loaded.evaluate()
    with pytest.raises(ValueError, match="not the data of the fit"):
        loaded.evaluate(few[::-1].copy())
    assert loaded.evaluate(few)["heldout_iwae"] == run.evaluate()["heldout_iwae"]
