"""Cells under another condition, drawn or decoded; what a run predicts of labels and numbers."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import f1_score

import pgm_expr
from pgm_expr.simulate import Scales, simulate

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")  # conditions tell nearly all

CELLS, GENES = 600, 60
STRONG = Scales(batch=1.0, type=2.0)


@pytest.fixture(scope="module")
def truth():
    return simulate(CELLS, GENES, seed=0, types=3, batches=2, median_library=2000.0, scales=STRONG)


@pytest.fixture(scope="module")
def adata(truth):
    adata = truth.to_anndata()
    adata.obs["dose"] = 50 + 10 * truth.z[:, 0]
    rng = np.random.default_rng(0)
    adata.obs["told"] = adata.obs["type"].astype(str).where(rng.random(CELLS) < 0.2)
    return adata


def fit(data, story="cvae", **options):
    sizes = dict(latent=5, hidden=32, epochs=60, learning_rate=5e-3, progress=False)
    return pgm_expr.fit(data, story, **sizes | options)


@pytest.fixture(scope="module")
def run(adata):
    return fit(
        adata,
        batch_key="batch",
        categorical_covariate_keys=["type"],
        continuous_covariate_keys=["dose"],
    )


def shares(x):
    """Composition of all cells together."""
    total = np.asarray(x.sum(0)).ravel()
    return total / total.sum()


def test_expression_in_another_batch(truth, run, adata):
    """Log fold changes between the batches of the same cells, r > .9 with the truth."""
    there, here = (
        run.normalized_expression(adata, condition={"batch": level}, draws=5).mean(0)
        for level in ("batch1", "batch0")
    )
    true = truth.log_fold_change({"batch": 1}, {"batch": 0})
    seen = truth.x.sum(0) > 300
    assert np.corrcoef(np.log(there / here)[seen], true[seen])[0, 1] > 0.9


def test_the_own_condition_changes_nothing(run, adata):
    only = adata[(adata.obs["batch"] == "batch1").to_numpy()].copy()
    plain = run.normalized_expression(only, draws=3)
    assert np.allclose(
        plain, run.normalized_expression(only, condition={"batch": "batch1"}, draws=3)
    )
    other = run.normalized_expression(only, condition={"batch": "batch0"}, draws=3)
    assert not np.allclose(plain, other)


def test_samples_of_a_condition_are_like_its_cells(run, adata):
    """Composition of draws, nearer to that of the type's cells than to any other type's."""
    real = {t: shares(adata[adata.obs["type"] == t].X) for t in sorted(set(adata.obs["type"]))}
    for level, own in real.items():
        drawn = run.sample(400, condition={"type": level})
        assert set(drawn.obs["type"]) == {level}
        gaps = {other: np.abs(shares(drawn.X) - r).sum() for other, r in real.items()}
        assert min(gaps, key=gaps.get) == level and gaps[level] < 0.5 * sorted(gaps.values())[1]
        assert own.sum() == pytest.approx(1)


def test_samples_bring_the_libraries_of_their_condition(adata):
    deep = adata.copy()
    twice = (deep.obs["batch"] == "batch1").to_numpy()
    deep.X = deep.X.multiply(np.where(twice, 3, 1)[:, None]).tocsr()
    run = fit(deep, batch_key="batch", epochs=2, warmup_epochs=1)
    low, high = (run.sample(200, condition={"batch": f"batch{i}"}).obs["library"] for i in (0, 1))
    assert 2.5 < high.median() / low.median() < 3.5


@pytest.mark.filterwarnings("ignore:.*learnt from 0 training cells")
def test_combinations_and_levels(run, adata):
    unseen = run.sample(20, condition={"type": "type2", "batch": "batch1", "dose": 80.0})
    assert unseen.shape == (20, GENES) and np.isfinite(unseen.X.toarray()).all()
    for wrong, words in {
        "tpye": "did not use obs column 'tpye'.*'type'",
        "batch": "'batch9'.*has not seen",
    }.items():
        with pytest.raises(ValueError, match=words):
            run.sample(5, condition={wrong: "batch9"})
        with pytest.raises(ValueError, match=words):
            run.normalized_expression(adata, condition={wrong: "batch9"})


def test_a_loaded_run_draws_the_same(run, tmp_path):
    run.save(tmp_path / "run")
    again = pgm_expr.load(tmp_path / "run")
    condition = {"type": "type1"}
    first, second = (r.sample(30, condition=condition, seed=3).X.toarray() for r in (run, again))
    assert np.array_equal(first, second)


@pytest.fixture(scope="module")
def kinds(adata):
    """A run of a story that has kinds as latents."""
    return fit(adata, "label", labels_key="told")


@pytest.mark.parametrize("story", ["vae", "label", "classify"])
def test_labels_are_predicted_with_probabilities(truth, adata, kinds, story):
    run = kinds if story == "label" else fit(adata, story, labels_key="told", epochs=30)
    p = run.predict_labels(adata, draws=5)
    assert list(p.columns) == ["type0", "type1", "type2"]
    assert list(p.index) == list(adata.obs_names) and np.allclose(p.sum(axis=1), 1)
    test = run.table.split.test
    guess = p.to_numpy().argmax(1)[test]
    assert f1_score(truth.type[test], guess, average="macro") > 0.9
    assert (adata.obs[f"pgm_{story}_label"].astype(str) == p.idxmax(axis=1)).all()
    assert np.allclose(adata.obs[f"pgm_{story}_probability"], p.max(axis=1))


def test_a_loaded_run_predicts_the_same_of_cells_without_the_column(kinds, adata, tmp_path):
    kinds.save(tmp_path / "run")
    again, bare = pgm_expr.load(tmp_path / "run"), adata.copy()
    again.training_table(adata)
    del bare.obs["told"]
    p = kinds.predict_labels(adata, draws=2)
    assert again.embed(bare).shape == (CELLS, 5)
    assert np.allclose(again.predict_labels(bare, draws=2), p)


@pytest.mark.filterwarnings("ignore:.*learnt from")
def test_a_kind_can_be_drawn(truth, kinds):
    """Cells of a label, from a story that knows kinds as latents."""
    real = {f"type{t}": shares(truth.x[truth.type == t]) for t in range(3)}
    for level in real:
        drawn = shares(kinds.sample(400, condition={"told": level}).X)
        assert min(real, key=lambda t: np.abs(real[t] - drawn).sum()) == level


def test_a_number_is_predicted_with_its_deviation():
    truth = simulate(CELLS, GENES, seed=1, types=1, latent=0, time=True, median_library=2000.0)
    adata, age = truth.to_anndata(), 50 + 10 * truth.time
    adata.obs["age"] = np.where(np.arange(CELLS) % 3, age, np.nan)
    run = fit(adata, "regress", target_key="age", epochs=100)
    told, test = run.predict_target(adata), run.table.split.test
    mean, sd = told["mean"].to_numpy()[test], told["sd"].to_numpy()[test]
    assert spearmanr(mean, age[test])[0] > 0.8
    inside = np.abs(age[test] - mean) < 1.96 * sd
    assert inside.mean() > 0.89  # 120 cells: .95 less three standard errors
    assert sd.mean() < age.std()  # and the interval is not everything
    assert np.allclose(adata.obs["pgm_regress_target_mean"], told["mean"])


def test_what_cannot_be_predicted(fitted):
    run, adata = fitted("cvae"), fitted.data("cvae")
    with pytest.raises(ValueError, match="has no labels"):
        run.predict_labels(adata)
    with pytest.raises(ValueError, match="no target to predict"):
        run.predict_target(adata)
