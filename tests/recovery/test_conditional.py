"""Slow: what is told of cells is not in their states, and what it does to genes is found."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import pgm_expr
from pgm_expr.data import sweep
from pgm_expr.evaluation import compare_counts, elbo, leakage, probe, standard_error
from pgm_expr.predict import draw_prior, draw_states
from pgm_expr.simulate import Scales, simulate

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pgm_expr.api.PosteriorCollapse"),  # types are told
]

GENES, FITTED, FRESH, RARE = 100, 1500, 1500, 5
STORIES = ("cvae", "conditional_prior")
SHORT = dict(latent=5, hidden=64, epochs=150, batch_size=128, learning_rate=3e-3, progress=False)
SHORT |= dict(encoder_dropout=0.0, decoder_dropout=0.0)
SCALES = Scales(batch=0.7, type=1.0)
EVEN = Scales(base=1.0, batch=0.7, type=0.7)  # no gene is most of a cell
TOLD = dict(batch_key="batch", categorical_covariate_keys=["condition"])


def cells(confounding=0.0, cells=FITTED + FRESH, scales=SCALES, **options):
    sizes = dict(types=4, batches=2, conditions=2, median_library=2000.0)
    return simulate(
        cells, GENES, seed=0, confounding=confounding, scales=scales, **sizes | options
    )


def fold_changes(ours):
    return np.log(ours[0] / ours[1])


def bounds(run, rows, index, **changes):
    """Held-out ELBO of some cells, (N,), some columns of which may be changed."""
    batch = {**rows, **changes}
    return elbo(run.model, run.guide, [{key: value[index] for key, value in batch.items()}])


# Without types: batch and condition are told, and types are to be found


@pytest.fixture(scope="module", params=[0.0, 0.5], ids=["randomised", "confounded"])
def fits(request):
    """Fits on half of the cells; the other half is for probes."""
    truth = cells(request.param)
    adata = truth.to_anndata()
    fitted = adata[:FITTED].copy()
    runs = {story: pgm_expr.fit(fitted, story, **TOLD, **SHORT) for story in STORIES}
    return truth, adata, runs | {"vae": pgm_expr.fit(fitted, "vae", **SHORT)}


def read(run, truth, adata, level):
    """Accuracy above chance, within types, of a probe of a level in draws of the states."""
    table = run.query(adata)
    batches = run.unlabelled(table, np.arange(len(table)))
    z = draw_states(run.model, run.guide, batches, 1)[0].numpy()
    train, fresh = run.table.split.train, slice(FITTED, None)
    sides = (
        z[at] if part is None else part[at] for at in (train, fresh) for part in (None, level)
    )
    groups = dict(train_groups=truth.type[train], test_groups=truth.type[fresh])
    found = leakage(*sides, **groups, permutations=20)
    assert found.groups == 4
    return found.accuracy - found.chance


@pytest.mark.parametrize("story", STORIES)
def test_the_batch_is_not_in_the_states(fits, story):
    """Less than .07 above chance, where the vae's is past .25: 1,500 cells, an error of .013."""
    truth, adata, runs = fits
    ours, plain = (read(runs[name], truth, adata, truth.batch) for name in (story, "vae"))
    assert abs(ours) < 0.07 and plain > 0.25


@pytest.mark.parametrize("story", STORIES)
def test_the_type_is_as_much_in_the_states_as_in_the_vaes(fits, story):
    truth, adata, runs = fits
    found = {}
    for name in (story, "vae"):
        run, fresh = runs[name], slice(FITTED, None)
        z, train = run.embed(adata), run.table.split.train
        scores = probe(z[train], truth.type[train], z[fresh], truth.type[fresh])
        found[name] = scores["balanced_accuracy"]
    assert found[story] > found["vae"] - 0.02 and found["vae"] > 0.9


@pytest.mark.parametrize("story", STORIES)
def test_genes_that_a_condition_leaves_alone_are_told_from_those_it_changes(fits, story, request):
    """Fold changes of the same cells under both conditions, r >= .9 with the truth, confounded
    or not; a comparison of the cells of either condition takes types for effects."""
    if request.node.callspec.id == "confounded-cvae":
        why = "its states do not know c, but the types do: AUROC .849 and .843 of seeds 0 and 1"
        request.applymarker(pytest.mark.xfail(reason=why, strict=False))
    truth, adata, runs = fits
    fitted = adata[:FITTED].copy()
    levels = ({"condition": f"condition{level}"} for level in (1, 0))
    ours = fold_changes(
        [
            runs[story].normalized_expression(fitted, condition=level, draws=5).mean(0)
            for level in levels
        ]
    )
    x, condition = truth.x[:FITTED], truth.condition[:FITTED]
    true = truth.log_fold_change({"condition": 1}, {"condition": 0})
    seen, changed = x.sum(0) > 300, truth.condition_effect[1] != 0
    sums = (x[condition == level].sum(0) + 0.5 for level in (1, 0))
    naive = fold_changes([total / total.sum() for total in sums])
    r, r_naive = (np.corrcoef(each[seen], true[seen])[0, 1] for each in (ours, naive))
    found, found_naive = (
        roc_auc_score(changed[seen], np.abs(each[seen])) for each in (ours, naive)
    )
    assert r >= 0.9 and found > 0.85
    assert r > r_naive - 0.01 and found > found_naive - 0.05


@pytest.mark.parametrize("story", STORIES)
def test_metadata_of_other_cells_cost_likelihood(fits, story):
    """Batch and condition permuted among the test cells: more than five paired errors."""
    _, _, runs = fits
    run = runs[story]
    rows = run.table.cells.rows(np.arange(FITTED))
    test = torch.as_tensor(run.table.split.test)
    right, shuffled = bounds(run, rows, test), dict(rows)
    order = test[torch.randperm(len(test), generator=torch.Generator().manual_seed(0))]
    for key in ("condition", "batch"):
        shuffled[key] = rows[key].clone()
        shuffled[key][test] = rows[key][order]
    loss = right - bounds(run, shuffled, test)
    assert loss.mean() > 5 * standard_error(loss)


# Combinations, and what is missing


@pytest.mark.filterwarnings("ignore:.*learnt from 0 training cells")
@pytest.mark.parametrize("story", STORIES)
def test_an_unseen_combination_is_near_the_sum_of_its_parts(story):
    """No cell of batch 1 in condition 1 is seen: r >= .9 with what such cells would express."""
    truth = cells(cells=FITTED)
    kept = (truth.batch == 0) | (truth.condition == 0)
    adata = truth.to_anndata()[kept].copy()
    run = pgm_expr.fit(adata, story, **TOLD, **SHORT)
    unseen, usual = (
        run.normalized_expression(
            adata, condition={"batch": f"batch{i}", "condition": f"condition{i}"}, draws=5
        )
        for i in (1, 0)
    )
    assert np.isfinite(unseen).all() and np.allclose(unseen.sum(1), 1, atol=1e-4)
    both = {"batch": 1, "condition": 1}, {"batch": 0, "condition": 0}
    true = truth.log_fold_change(*both, cells=np.flatnonzero(kept))
    seen = truth.x[kept].sum(0) > 300
    ours = fold_changes([unseen.mean(0), usual.mean(0)])
    drawn = run.sample(200, condition={"batch": "batch1", "condition": "condition1"}).X.toarray()
    r = np.corrcoef(ours[seen], true[seen])[0, 1]
    error = np.abs(ours - true)[seen].mean() / np.abs(true)[seen].mean()
    assert r >= 0.9 and error < 0.5
    assert np.isfinite(drawn).all() and drawn.sum(1).mean() == pytest.approx(
        np.median(truth.library), rel=0.3
    )


@pytest.mark.parametrize("story", STORIES)
def test_missing_values_are_taken(story):
    """A fifth of each covariate is missing: bounds stay finite, and all of it missing decodes."""
    truth = cells(cells=800)
    adata, rng = truth.to_anndata(), np.random.default_rng(0)
    adata.obs["dose"] = np.where(rng.random(800) < 0.2, np.nan, truth.z[:, 0])
    known = adata.obs["condition"].astype(str)
    adata.obs["condition"] = known.where(rng.random(800) > 0.2)
    run = pgm_expr.fit(
        adata, story, continuous_covariate_keys=["dose"], **TOLD, **SHORT | dict(epochs=40)
    )
    assert np.isfinite([row["validation"] for row in run.history if "validation" in row]).all()
    adata.obs["dose"], adata.obs["condition"] = np.nan, None
    assert np.isfinite(run.embed(adata)).all()
    assert np.isfinite(run.normalized_expression(adata, draws=1)).all()
    everything = bounds(run, run.query(adata).rows(np.arange(800)), run.table.split.test)
    full = bounds(run, run.table.cells.rows(np.arange(800)), run.table.split.test)
    assert everything.isfinite().all() and everything.mean() > full.mean() - 30


# With types told: a prior for each, a rare one, and cells of which nothing is told


@pytest.fixture(scope="module")
def known():
    """Types are told, one of them of five cells; a fifth of all cells is not told anything."""
    truth = cells(cells=FITTED, scales=EVEN)
    adata = truth.to_anndata()
    types = adata.obs["type"].astype(str).to_numpy()
    types[np.flatnonzero(truth.type == 0)[:RARE]] = "rare"
    adata.obs["type"] = types
    keys = dict(batch_key="batch", categorical_covariate_keys=["type"], condition_dropout=0.2)
    return truth, adata, {s: pgm_expr.fit(adata, s, **keys, **SHORT) for s in STORIES}


def not_told(library):
    """Cells of which the model is told their library alone; type (5 levels) and its column."""
    nothing = torch.full((len(library), 6), torch.nan)
    return {"library": library, "condition": nothing, "batch": torch.full((len(library),), -1)}


def test_a_learned_prior_is_not_below_a_fixed_one():
    """Held-out ELBO of the test cells, within two paired standard errors."""
    adata = cells(cells=FITTED, scales=EVEN).to_anndata()
    keys = dict(batch_key="batch", categorical_covariate_keys=["type"])
    runs = [pgm_expr.fit(adata, story, **keys, **SHORT) for story in STORIES]
    fixed, learned = (
        bounds(run, run.table.cells.rows(np.arange(FITTED)), run.table.split.test) for run in runs
    )
    gain = learned - fixed
    assert gain.mean() > -2 * standard_error(gain)


def near_the_floor(found):
    """Less than twice what real cells differ by, and slopes within a tenth of theirs."""
    assert found["mean_log_ratio"] < 2 * found["mean_log_ratio_floor"]
    assert found["variance_log_ratio"] < 2 * found["variance_log_ratio_floor"]
    assert found["zero_rate_mae"] < 2 * found["zero_rate_floor"]
    for slope in ("mean_slope", "variance_slope"):
        assert abs(found[slope] - found[f"{slope}_floor"]) < 0.1


@pytest.mark.parametrize("level", ["type1", "type2", "type3"])
def test_draws_of_a_type_are_like_its_cells(known, level):
    """Several draws for each test cell of the type, beside the floor of real cells."""
    _, adata, runs = known
    run = runs["conditional_prior"]
    of_type = adata.obs["type"].to_numpy() == level
    test, train = (
        index[of_type[index]] for index in (run.table.split.test, run.table.split.train)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = draw_prior(run.model, sweep(run.table.cells, np.tile(test, 10), 512)).numpy()
    x = run.table.cells.counts
    near_the_floor(compare_counts(drawn, x[test], x[train]))


@pytest.mark.parametrize("story", STORIES)
def test_draws_of_cells_of_which_nothing_is_told_are_like_all_cells(known, story):
    """And not like those of one type: the mixture's variance is there too."""
    truth, _, runs = known
    run, x = runs[story], runs[story].table.cells.counts
    test, train = run.table.split.test, run.table.split.train
    library = run.table.cells.rows(np.tile(test, 10))["library"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = draw_prior(run.model, [not_told(library)]).numpy()
    found = compare_counts(drawn, x[test], x[train])
    near_the_floor(found)
    for one in range(4):
        apart = compare_counts(drawn, x[test[truth.type[test] == one]], x[train])
        assert apart["mean_log_ratio"] > 2 * found["mean_log_ratio"]


@pytest.mark.parametrize("story", STORIES)
def test_a_missing_type_is_not_nothing_told(known, story):
    """The token has weights of its own: missing levels and the token decode differently."""
    _, _, runs = known
    model = runs[story].model
    library = torch.full((50, 1), 2000.0)
    token = not_told(library)
    missing = torch.eye(6)[[5]].expand(50, -1)  # the column that says so
    features = model.metadata(missing, token["batch"]), model.metadata(*list(token.values())[1:])
    assert features[0][0, -1] == 0 and features[1][0, -1] == 1
    assert features[0][0, :-1].any() and not features[1][0, :-1].any()
    for level in torch.eye(6):
        for batch in (0, 1, -1):
            told = model.metadata(level.expand(1, -1), torch.tensor([batch]))
            assert told[0, -1] == 0 and not torch.equal(told, features[1][:1])


@pytest.mark.filterwarnings("ignore:.*learnt from")
def test_priors_of_rare_and_of_untold_cells_are_of_sensible_size(known):
    """Five cells say little: neither far away nor a point, nor wider than all cells together."""
    truth, _, runs = known
    run = runs["conditional_prior"]
    rows = run.table.cells.rows(np.arange(FITTED))
    rare = run.encoding.categories["type"].index("rare")
    at = (rows["condition"][:, rare] == 1).nonzero().squeeze(-1)
    assert len(at) == RARE
    for told in ({k: rows[k][at] for k in ("condition", "batch")}, not_told(rows["library"][:4])):
        prior = run.model.prior(run.model.metadata(told["condition"], told["batch"]))
        assert prior.mean.abs().max() < 5
        assert prior.stddev.min() > 0.1 and prior.stddev.max() < 5
    drawn = run.sample(300, condition={"type": "rare"}, library=np.full(300, 2000.0)).X.toarray()
    assert np.isfinite(drawn).all()
    assert drawn.sum(1).mean() == pytest.approx(2000, rel=0.1)
    parents = {t: truth.x[truth.type == t].sum(0) for t in range(4)}
    gaps = {t: np.abs(drawn.sum(0) / drawn.sum() - x / x.sum()).sum() for t, x in parents.items()}
    assert min(gaps, key=gaps.get) == 0  # they are cells of type 0 by another name
