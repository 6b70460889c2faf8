"""What a fitted run answers: latents, expression, draws, metrics, pictures."""

import json

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import pgm_expr
from pgm_expr import evaluation, simulate

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")  # of few epochs

LATENT, GENES, CELLS = 3, 20, 90
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
def truth():
    return simulate.simulate(CELLS, GENES, seed=0, types=2, batches=2, median_library=2000.0)


@pytest.fixture
def adata(truth):
    return truth.to_anndata()


@pytest.fixture(scope="module")
def run(truth):
    return fit(truth.to_anndata(), labels_key="type", batch_key="batch")


def fit(data, **options):
    sizes = dict(latent=LATENT, hidden=16, epochs=20, learning_rate=5e-3, progress=False)
    return pgm_expr.fit(data, **sizes | options)


@pytest.fixture
def quick(monkeypatch):
    """Fewer importance draws than a verdict deserves."""
    judge = evaluation.judge
    monkeypatch.setattr(evaluation, "judge", lambda *a, **o: judge(*a, **o, draws=(5, 20)))


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


def test_embed_does_not_mind_the_batches_of_cells(run, adata, monkeypatch):
    latent = run.embed(adata)
    monkeypatch.setattr("pgm_expr.runs.fitted.SWEEP", 7)
    assert np.allclose(run.embed(adata), latent, atol=1e-6)
    assert np.allclose(run.embed(adata[:1].copy()), latent[:1], atol=1e-6)


def test_a_missing_gene_counts_as_zero_and_is_told(run, adata):
    without = adata[:, 1:].copy()
    with pytest.warns(UserWarning, match="1 of the 20 modelled genes.*gene0"):
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
    """Each gene's mean share over cells, to a fifth: what 20 epochs teach."""
    x = counts(adata)
    real = (x / x.sum(1, keepdim=True)).mean(0).numpy()
    ours = run.normalized_expression(adata).mean(0)
    assert np.abs(np.log(ours / real)[real > 0.01]).max() < 0.2


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


def test_evaluate_judges_the_test_cells(run):
    metrics = run.evaluate()
    assert metrics.keys() >= METRICS and run.metrics is metrics
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert (metrics["seed"], metrics["split_seed"]) == (0, 0)
    assert metrics["cells_per_second"] > 0
    batch = run.table.cells.rows(run.table.split.test)
    torch.manual_seed(0)
    with torch.no_grad():
        bounds = [run.objective().eval().per_cell(**batch).mean().item() for _ in range(200)]
    assert abs(metrics["heldout_elbo"] - np.mean(bounds)) < 5 * np.std(bounds)
    assert metrics["heldout_iwae"] > np.mean(bounds)


def test_evaluate_takes_other_cells(run, quick):
    """And judges them all: their mean bound, by the first draws of the same noise."""
    truth = simulate.simulate(30, GENES, seed=0, types=2, batches=2, median_library=2000.0)
    new = truth.to_anndata()
    new.obs_names = "new-" + new.obs_names
    metrics = run.evaluate(new)
    batches = run.unlabelled(run.query(new), np.arange(30))
    bounds = evaluation.iwae(run.model, run.guide, batches, (5,))[5]
    assert len(bounds) == 30 and metrics["heldout_iwae"] == pytest.approx(bounds.mean().item())


def test_evaluate_takes_more_cells_than_trained(run, adata, quick):
    adata.obs_names = "new-" + adata.obs_names
    assert np.isfinite(run.evaluate(adata)["heldout_iwae"])


def test_evaluate_without_labels(adata, quick):
    metrics = fit(adata, epochs=2).evaluate()
    assert metrics["probe_macro_f1"] is None is metrics["pca_probe_macro_f1"]


@pytest.mark.filterwarnings("default:posterior collapse")
def test_a_collapsed_run_is_told_at_evaluation(adata, quick):
    run = fit(adata, epochs=1, learning_rate=1e-9)
    with pytest.warns(pgm_expr.api.PosteriorCollapse):
        assert "posterior collapse" in run.evaluate()["collapse"]


ANSWERS = {
    "embed": lambda run, adata: run.embed(adata),
    "normalized_expression": lambda run, adata: run.normalized_expression(adata),
    "sample": lambda run, adata: run.sample(5).X.toarray(),
    "evaluate": lambda run, adata: run.evaluate(),
}


@pytest.mark.parametrize("objective", [None, "trace", "iwae-4"])
@pytest.mark.parametrize("verb", ANSWERS)
def test_answers_repeat_and_leave_the_generators(truth, adata, verb, objective, quick):
    run, answers = fit(truth.to_anndata(), epochs=2, objective=objective), []
    for seed in (1, 2):
        torch.manual_seed(seed), np.random.seed(seed)
        states = torch.get_rng_state(), np.random.get_state()[1].copy()
        answers.append(ANSWERS[verb](run, adata))
        assert torch.equal(torch.get_rng_state(), states[0])
        assert (np.random.get_state()[1] == states[1]).all()
    assert np.array_equal(*answers) if verb != "evaluate" else answers[0] == answers[1]


def test_pictures_are_pngs(run):
    pictures = run.pictures()
    assert list(pictures) == ["training.png", "latent.png"]
    assert all(png.startswith(b"\x89PNG\r\n\x1a\n") for png in pictures.values())


def test_embed_of_a_sparse_array(run, adata):
    latent = run.embed(adata)
    adata.X = sp.csc_matrix(adata.X)
    assert np.array_equal(run.embed(adata), latent)


def test_the_data_of_the_fit_given_again_are_judged_on_the_test_cells(run, adata, quick):
    """Training cells never pass for held-out ones."""
    again = run.evaluate(adata.copy())
    assert again == run.evaluate()


def test_cells_of_the_fit_among_others_are_told(run, adata, quick):
    with pytest.warns(UserWarning, match="names of cells in the fit"):
        run.evaluate(adata[:60].copy())


def test_a_run_trained_with_iwae_is_judged_by_the_elbo(adata, quick):
    """One more particle in training does not flatter `heldout_elbo`; the KL stays by dimension."""
    run = fit(adata, epochs=2, objective="iwae-50")
    metrics = run.evaluate()
    batches = [run.table.cells.rows(run.table.split.test)]
    elbo = evaluation.elbo(run.model, run.guide, batches).mean().item()
    assert metrics["heldout_elbo"] == pytest.approx(elbo, abs=0.5)
    assert len(metrics["kl_per_dimension"]) == LATENT


def test_a_loaded_run_takes_the_data_it_cannot_find_again(run, adata, tmp_path, quick):
    run.save(tmp_path / "run")
    loaded = pgm_expr.load(tmp_path / "run")
    with pytest.raises(ValueError, match="in memory"):
        loaded.evaluate()
    with pytest.raises(ValueError, match="not the data of the fit"):
        loaded.evaluate(adata[::-1].copy())
    assert loaded.evaluate(adata)["heldout_iwae"] == run.evaluate()["heldout_iwae"]
