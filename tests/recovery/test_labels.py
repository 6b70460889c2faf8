"""Slow: what labels and numbers of some cells teach about all others."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, r2_score

import pgm_expr
from pgm_expr.data import sweep
from pgm_expr.evaluation import compare_counts, fit_classifier, pca, probe, standard_error
from pgm_expr.predict import draw_prior
from pgm_expr.simulate import Scales, simulate

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pgm_expr.api.PosteriorCollapse"),
    pytest.mark.filterwarnings("ignore:.*genes without any count"),  # cells are shallow
]

KINDS, GENES, FITTED, FRESH, SEEDS = 5, 80, 500, 1000, 5
SHORT = dict(latent=5, hidden=64, epochs=120, learning_rate=4e-3, progress=False)


def cells(seed, fitted=FITTED, **options):
    """A truth of shallow cells, whose first `fitted` are to be fitted to."""
    sizes = dict(types=KINDS, latent=3, median_library=200.0)
    scales = Scales(type=0.8, latent=0.5)
    return simulate(fitted + FRESH, GENES, seed=seed, **dict(scales=scales) | sizes | options)


def told(types, per_kind, flipped, rng):
    """Labels of some cells of each kind, a share of which names another kind; None elsewhere."""
    chosen = [
        rng.choice(np.flatnonzero(types == t), per_kind, replace=False) for t in range(KINDS)
    ]
    at, labels = np.concatenate(chosen), types.astype(object)
    wrong = rng.choice(at, round(flipped * len(at)), replace=False)
    labels[wrong] = (types[wrong] + rng.integers(1, KINDS, len(wrong))) % KINDS
    return np.where(np.isin(np.arange(len(types)), at), labels, None)


def codes(labels):
    return np.array([-1 if label is None else int(label) for label in labels])


def gain(seed, per_kind, flipped):
    """Macro-F1 on fresh cells, minus that of logistic regression on principal components."""
    truth, rng = cells(seed), np.random.default_rng(seed)
    adata, types = truth.to_anndata(), truth.type
    fitted, fresh = adata[:FITTED].copy(), adata[FITTED:].copy()
    labels = told(types[:FITTED], per_kind, flipped, rng)
    fitted.obs["told"] = [None if label is None else str(label) for label in labels]
    run = pgm_expr.fit(fitted, "label", labels_key="told", noise=flipped, seed=seed, **SHORT)
    guess = run.predict_labels(fresh).to_numpy().argmax(1)
    ours = f1_score(types[FITTED:], guess, average="macro")
    components, others = pca(fitted.X, fresh.X)
    theirs = probe(components, codes(labels), others, types[FITTED:])["macro_f1"]
    return ours - theirs


@pytest.mark.parametrize("flipped, per_kind", [(0.0, 5), (0.2, 10)], ids=["few", "flipped"])
def test_few_labels_go_further_than_on_principal_components(flipped, per_kind):
    """The paired mean over seeds is above 0 by two standard errors, some wrong labels or none."""
    gains = np.array([gain(seed, per_kind, flipped) for seed in range(SEEDS)])
    assert gains.mean() > 2 * gains.std(ddof=1) / SEEDS**0.5


@pytest.fixture(scope="module")
def labelled():
    """All cells are labelled; the kinds are of unequal shares."""
    truth = cells(0, fitted=2000)
    kept = (
        np.random.default_rng(0).random(len(truth.type))
        < np.array([1, 0.8, 0.6, 0.4, 0.2])[truth.type]
    )
    adata = truth.to_anndata()[kept].copy()
    run = pgm_expr.fit(adata, "label", labels_key="type", **SHORT | dict(epochs=60))
    return truth.type[kept], run


def test_the_shares_of_kinds_are_learned(labelled):
    types, run = labelled
    ours = run.model.share.softmax(-1).detach().numpy()
    shares = np.bincount(types[run.table.split.train]) / len(run.table.split.train)
    assert np.abs(ours - shares).max() < 0.03


def test_draws_of_a_kind_are_like_its_cells(labelled):
    """Given the libraries of held-out cells, beside what real cells of the kind differ by."""
    types, run = labelled
    test, train = run.table.split.test, run.table.split.train
    x = run.table.cells.counts
    for kind in range(3):
        held_out, reference = (index[types[index] == kind] for index in (test, train))
        with torch.random.fork_rng():
            torch.manual_seed(kind)
            drawn = draw_prior(run.model, sweep(run.table.cells, np.tile(held_out, 10), 512))
        found = compare_counts(drawn.numpy(), x[held_out], x[reference], minimum=30)
        assert found["mean_log_ratio"] < 2 * found["mean_log_ratio_floor"]
        assert found["zero_rate_mae"] < 2 * found["zero_rate_floor"]
        other = compare_counts(drawn.numpy(), x[test[types[test] == 3]], x[reference], minimum=30)
        assert other["mean_log_ratio"] > 2 * found["mean_log_ratio"]


def test_supervision_brings_labels_into_few_dimensions():
    """Two dimensions, and states that vary more by three other factors than by the kind."""
    scales = Scales(type=0.5, latent=1.2)
    truth = cells(0, types=3, scales=scales, median_library=1000.0)
    adata = truth.to_anndata()
    fitted, fresh = adata[:FITTED].copy(), truth.type[FITTED:]
    found = {}
    for name, story, options in (
        ("vae", "vae", {}),
        ("0", "classify", {"supervision": 0.0}),
        ("100", "classify", {"supervision": 100.0}),
    ):
        run = pgm_expr.fit(fitted, story, labels_key="type", **SHORT | {"latent": 2} | options)
        z, rows = run.embed(adata), run.table.split.train
        scores = probe(z[rows], truth.type[rows], z[FITTED:], fresh)
        found[name] = scores["balanced_accuracy"]
    assert found["0"] == found["vae"]
    assert found["100"] > found["vae"] + 0.3 and found["100"] > 0.85


def likelihoods(seed):
    """-log p(type) of fresh cells, by draws of their state and by its mean, from few labels."""
    truth = cells(seed, median_library=100.0)
    adata, types = truth.to_anndata(), truth.type
    fitted, fresh = adata[:FITTED].copy(), adata[FITTED:].copy()
    labels = told(types[:FITTED], 8, 0.0, np.random.default_rng(seed))
    fitted.obs["told"] = [None if label is None else str(label) for label in labels]
    run = pgm_expr.fit(fitted, "classify", labels_key="told", supervision=20.0, seed=seed, **SHORT)
    development = run.table.split.development
    known = run.table.cells.columns["label"][development]
    ours, theirs = (run.embed(data)[None] for data in (fitted, fresh))
    plugged = fit_classifier(ours[:, development], known, classes=KINDS).probabilities(theirs)
    averaged = run.predict_labels(fresh).to_numpy()
    return [-np.log(p[np.arange(FRESH), types[FITTED:]]) for p in (averaged, plugged)]


def test_probabilities_averaged_over_states_beat_those_of_the_mean_state():
    """From few labels, which the encoder knows nearly by heart: mean states of the labelled cells
    are surer than those of others. (With all cells labelled the mean state does better.)"""
    for seed in range(3):
        averaged, plugged = likelihoods(seed)
        difference = torch.as_tensor(plugged - averaged)
        assert difference.mean() > 2 * standard_error(difference)


def test_a_number_is_predicted_and_its_intervals_hold():
    """R2 on fresh cells, and at least .92 of them within 1.96 deviations, which say something."""
    truth = cells(1, types=1, latent=0, time=True, median_library=1000.0)
    adata, rng = truth.to_anndata(), np.random.default_rng(0)
    adata.obs["age"] = 50 + 10 * truth.time
    fitted, fresh = adata[:FITTED].copy(), adata[FITTED:].copy()
    fitted.obs["age"] = fitted.obs["age"].where(rng.random(FITTED) < 0.6)
    run = pgm_expr.fit(fitted, "regress", target_key="age", **SHORT)
    age = fresh.obs.pop("age").to_numpy()
    found = run.predict_target(fresh)
    r2 = r2_score(age, found["mean"])
    inside = (np.abs(age - found["mean"]) < 1.96 * found["sd"]).mean()
    assert r2 > 0.7 and inside > 0.92 and found["sd"].mean() < 0.75 * age.std()
