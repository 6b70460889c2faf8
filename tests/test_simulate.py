import anndata
import numpy as np
import pytest
from scipy import stats

from pgm_expr.simulate import Scales, simulate

# Tolerances are in standard errors; 5 of them fail for one seed in 1.7 million and test.


def full(**options):
    """A small truth with every effect in it."""
    defaults = dict(
        seed=0,
        batches=2,
        conditions=3,
        confounding=0.5,
        perturbations=3,
        combinations=[(0, 1)],
        held_out=[(1, 2)],
        time=True,
        gate=0.1,
        scales=Scales(interaction=0.5),
    )
    return simulate(300, 40, **defaults | options)


def correct(mean):
    return mean - np.log(np.exp(mean).sum(-1, keepdims=True))


def test_a_seed_gives_one_truth():
    one, same, other = full(), full(), full(seed=1)
    for field, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(same, field), err_msg=field)
    assert (one.x != other.x).any() and (one.base != other.base).all()


def test_counts_do_not_depend_on_the_chunk():
    whole = full(chunk=1000)
    np.testing.assert_array_equal(whole.x, full(chunk=7).x)
    np.testing.assert_array_equal(whole.draw(3, chunk=1), whole.draw(3, chunk=299))


def test_shapes_are_those_documented():
    truth = full()
    shapes = {field: value.shape for field, value in vars(truth).items()}
    n, d, k, b, c, p, i, g = 300, 5, 4, 2, 3, 3, 2, 40
    assert shapes == {
        **dict.fromkeys(("type", "batch", "condition", "time", "library"), (n,)),
        **dict.fromkeys(("base", "time_effect", "time_switch", "log_dispersion", "gate"), (g,)),
        "z": (n, d),
        "perturbation": (n, p),
        "loadings": (d, g),
        "type_effect": (k, g),
        "batch_effect": (b, g),
        "condition_effect": (c, g),
        "perturbation_effect": (p, g),
        "pairs": (i, 2),
        "interaction": (i, g),
        "x": (n, g),
    }
    assert truth.x.dtype == np.int32 and (truth.x >= 0).all()


def test_log_mean_is_the_documented_sum():
    truth = full()
    for n in (0, 7, 299):
        eta = truth.base + truth.z[n] @ truth.loadings + truth.type_effect[truth.type[n]]
        eta += truth.batch_effect[truth.batch[n]] + truth.condition_effect[truth.condition[n]]
        given = set(np.flatnonzero(truth.perturbation[n]))
        eta += sum(truth.perturbation_effect[p] for p in given)
        pairs = zip(truth.pairs.tolist(), truth.interaction, strict=True)
        eta += sum(effect for pair, effect in pairs if set(pair) <= given)
        eta += truth.time_effect / (1 + np.exp(-(truth.time[n] - truth.time_switch) / 0.1))
        expected = truth.library[n] * np.exp(eta) / np.exp(eta).sum()
        np.testing.assert_allclose(np.exp(truth.log_mean([n])[0]), expected, rtol=1e-12)
        np.testing.assert_allclose(truth.mean([n])[0], expected * (1 - truth.gate), rtol=1e-12)
    assert (truth.perturbation.sum(1) == 2).any(), "no cell carries a pair"


def test_totals_have_the_library_as_their_mean():
    truth = simulate(4000, 50, seed=1, median_library=500)
    mean = truth.mean()
    variance = mean + mean**2 / np.exp(truth.log_dispersion)
    score = (truth.x.sum(1) - truth.library).sum() / np.sqrt(variance.sum())
    assert abs(score) < 5
    # The sample median of a log-normal has a standard error of sd sqrt(pi / 2 N) on the log scale.
    error = 0.4 * np.sqrt(np.pi / 2 / 4000)
    assert abs(np.log(np.median(truth.library) / 500)) < 5 * error
    assert abs(np.log(truth.library).std() - 0.4) < 5 * 0.4 / np.sqrt(2 * 4000)


@pytest.mark.parametrize("theta", [0.5, 2.0, 1e8])
def test_variance_is_negative_binomial(theta):
    one_cell = simulate(1, 20, seed=2, dispersion=(theta, 0.0), median_library=200)
    np.testing.assert_allclose(np.exp(one_cell.log_dispersion), theta)
    draws = np.vstack([one_cell.draw(seed) for seed in range(8000)])
    mean = one_cell.mean()[0]
    expected = stats.nbinom(theta, theta / (theta + mean))
    variance, kurtosis = expected.stats("vk")
    np.testing.assert_allclose(variance, mean + mean**2 / theta, rtol=1e-6)
    error = variance * np.sqrt((kurtosis + 2) / 8000)
    # A variance of skewed counts is itself skewed: 6 standard errors for its heavier tail.
    assert (np.abs(draws.var(0) - variance) < 6 * error).all()
    assert (np.abs(draws.mean(0) - mean) < 5 * np.sqrt(variance / 8000)).all()


def test_gate_makes_the_extra_zeros():
    truth = simulate(4000, 60, seed=3, gate=0.3)
    mean, theta = np.exp(truth.log_mean()), np.exp(truth.log_dispersion)
    by_chance = (theta / (theta + mean)) ** theta
    zero = truth.gate + (1 - truth.gate) * by_chance
    error = np.sqrt((zero * (1 - zero)).sum(0))
    assert (np.abs((truth.x == 0).sum(0) - zero.sum(0)) < 5 * error).all()
    without = ((truth.x == 0).sum(0) - by_chance.sum(0)) / error
    assert (without > 5).mean() > 0.9, "the zeros would pass without a gate"
    # Beta(3, 7) over 60 genes.
    assert abs(truth.gate.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 11 / 60)
    assert not simulate(5, 60, seed=3).gate.any()


def contingency(truth):
    table = np.zeros((len(truth.type_effect), len(truth.condition_effect)))
    np.add.at(table, (truth.type, truth.condition), 1)
    return table


def test_confounding_goes_from_independent_to_determined():
    free, half, tied = (
        contingency(simulate(4000, 2, seed=4, conditions=2, confounding=c)) for c in (0, 0.5, 1)
    )
    assert stats.chi2_contingency(free).pvalue > 1e-4
    assert ((tied > 0).sum(1) == 1).all() and (tied.sum(0) > 0).all()
    # At 1/2 a cell is in its type's own condition with probability 1/2 + 1/4.
    own = half[[0, 1, 2, 3], [0, 1, 0, 1]].sum()
    assert abs(own - 3000) < 5 * np.sqrt(4000 * 0.75 * 0.25)


def grouped_log_ratio(x, group, control):
    """Log ratio of group means per gene and its standard error by the delta method."""
    treated, untreated = x[group], x[control]
    variance = sum(y.var(0, ddof=1) / len(y) / y.mean(0) ** 2 for y in (treated, untreated))
    return np.log(treated.mean(0) / untreated.mean(0)), np.sqrt(variance)


def test_condition_effect_is_recovered_only_without_confounding():
    def discrepancy(confounding):
        truth = simulate(6000, 50, seed=5, conditions=2, confounding=confounding)
        known = truth.log_fold_change({"condition": 1}, {"condition": 0})
        treated = truth.condition == 1
        estimate, error = grouped_log_ratio(truth.x, treated, ~treated)
        return np.abs(estimate - known) / error

    assert (discrepancy(0.0) < 5).all()
    assert (discrepancy(1.0) > 5).mean() > 0.5


def test_known_fold_changes_are_the_effects_up_to_the_softmax():
    truth = simulate(500, 200, seed=6, conditions=2, latent=0, types=1, null=0.7)
    change = (truth.log_mean(condition=1) - truth.log_mean(condition=0))[3]
    effect = truth.condition_effect[1]
    np.testing.assert_allclose(change - change[0], effect - effect[0], atol=1e-9)
    assert abs((effect == 0).mean() - 0.7) < 5 * np.sqrt(0.7 * 0.3 / 200)
    assert not truth.condition_effect[0].any() and not truth.batch_effect[0].any()


def test_null_genes_stay_put_when_the_others_change():
    truth = full(null=0.5, types=1, latent=0, confounding=0, scales=Scales(type=0))
    at_base = dict(batch=0, perturbation=np.zeros(3), time=-10.0)  # before any gene switches
    null = truth.condition_effect[1] == 0
    assert 0 < null.sum() < 40
    fold = truth.log_fold_change({"condition": 1, **at_base}, {"condition": 0, **at_base})
    np.testing.assert_allclose(fold, truth.condition_effect[1], atol=1e-9)
    assert not fold[null].round(9).any()


def test_null_of_one_plants_nothing():
    truth = full(null=1.0)
    changed = dict(condition=2, perturbation=[1, 1, 1], time=1.0)
    np.testing.assert_allclose(
        truth.log_mean(**changed), truth.log_mean(condition=0, perturbation=0, time=0.0)
    )


def before_softmax(truth, **changes):
    """Log means relative to a reference gene: what is left when the softmax constant cancels."""
    log_mean = truth.log_mean(**changes)
    return log_mean - log_mean[:, :1]


def departure(truth, i, j):
    """How far a pair is from the sum of its singles, relative to gene 0 -> (N, G)."""
    single = np.eye(3)
    control, first, second, both = (
        before_softmax(truth, perturbation=given)
        for given in (0 * single[0], single[i], single[j], single[i] + single[j])
    )
    return both - first - second + control


def test_combinations_add_up_without_interaction():
    truth = full(scales=Scales(interaction=0.0))
    for pair in ((0, 1), (1, 2), (0, 2)):
        np.testing.assert_allclose(departure(truth, *pair), 0, atol=1e-9)
    assert np.abs(before_softmax(truth, perturbation=[1, 0, 0]) - before_softmax(truth)).max() > 1


def test_interaction_is_known_for_seen_and_held_out_pairs():
    truth = full(scales=Scales(interaction=0.5))
    for row, pair in enumerate([(0, 1), (1, 2)]):
        expected = truth.interaction[row] - truth.interaction[row, 0]
        np.testing.assert_allclose(departure(truth, *pair) - expected, 0, atol=1e-9)
        assert np.abs(truth.interaction[row]).max() > 0.5
    np.testing.assert_allclose(departure(truth, 0, 2), 0, atol=1e-9)


def test_held_out_pairs_reach_no_cell():
    given = {tuple(np.flatnonzero(row)) for row in full().perturbation}
    assert given == {(), (0,), (1,), (2,), (0, 1)}


def test_genes_move_one_way_along_time():
    truth = full(time=True)
    still = int(np.flatnonzero(truth.time_effect == 0)[0])
    path = np.stack([truth.log_mean([3], time=t)[0] for t in np.linspace(0, 1, 30)])  # (T, G)
    steps = np.diff(path - path[:, [still]], axis=0) * np.sign(truth.time_effect)
    moving = truth.time_effect != 0
    assert (steps[:, moving] > 0).all() and 10 < moving.sum() < 30
    np.testing.assert_allclose(steps[:, ~moving], 0, atol=1e-9)


def test_time_can_be_read_off_the_counts():
    truth = simulate(500, 200, seed=7, time=True, types=1, latent=0)
    logs = np.log1p(1e4 * truth.x / truth.x.sum(1, keepdims=True))
    assert stats.spearmanr(logs @ truth.time_effect, truth.time).statistic > 0.9
    assert truth.time.min() >= 0 and truth.time.max() <= 1
    timeless = simulate(50, 200, seed=7)
    assert not timeless.time.any() and not timeless.time_effect.any()


def test_counterfactual_draws_have_the_counterfactual_mean():
    truth = full(seed=8)
    draws = np.mean([truth.draw(seed, condition=1, batch=0).mean(0) for seed in range(50)], 0)
    m, theta = np.exp(truth.log_mean(condition=1, batch=0)), np.exp(truth.log_dispersion)
    mean = truth.mean(condition=1, batch=0)
    second = (1 - truth.gate) * (m + m**2 / theta + m**2)
    error = np.sqrt((second - mean**2).sum(0) / 50) / 300
    assert (np.abs(draws - mean.mean(0)) < 5 * error).all()
    assert (np.abs(draws - truth.mean().mean(0)) > 5 * error).mean() > 0.5


def test_a_fold_change_of_chosen_cells_uses_only_those():
    truth = full()
    chosen = truth.type == 2
    expected = np.log(truth.mean(condition=1)[chosen].sum(0) / truth.mean()[chosen].sum(0))
    np.testing.assert_allclose(
        truth.log_fold_change({"condition": 1}, {}, chosen), expected, atol=1e-12
    )


def test_anndata_carries_counts_and_truth_through_a_file(tmp_path):
    truth = full()
    truth.to_anndata().write_h5ad(tmp_path / "truth.h5ad")
    adata = anndata.read_h5ad(tmp_path / "truth.h5ad")
    np.testing.assert_array_equal(adata.X.toarray(), truth.x)
    assert adata.X.format == "csr"
    for field in ("type", "batch", "condition"):
        assert list(adata.obs[field]) == [f"{field}{level}" for level in getattr(truth, field)]
    names = {(): "control", (0,): "p0", (1,): "p1", (2,): "p2", (0, 1): "p0+p1"}
    given = [names[tuple(np.flatnonzero(row))] for row in truth.perturbation]
    assert list(adata.obs["perturbation"]) == given
    np.testing.assert_array_equal(adata.obs["time"], truth.time)
    np.testing.assert_array_equal(adata.obs["truth_library"], truth.library)
    np.testing.assert_array_equal(adata.uns["truth_pairs"], truth.pairs)
    carried = [(adata.obsm, "z", False), (adata.obsm, "perturbation", False)]
    carried += [(adata.var, name, False) for name in ("base", "time_effect", "time_switch")]
    carried += [(adata.var, name, False) for name in ("log_dispersion", "gate")]
    carried += [(adata.varm, f"{name}_effect", True) for name in ("type", "batch", "condition")]
    carried += [(adata.varm, n, True) for n in ("loadings", "perturbation_effect", "interaction")]
    for where, field, turned in carried:
        value = np.asarray(where[f"truth_{field}"])
        np.testing.assert_array_equal(value.T if turned else value, getattr(truth, field))


def test_the_plainest_call_makes_an_anndata_too(tmp_path):
    adata = simulate(10, 5, seed=0).to_anndata()
    adata.write_h5ad(tmp_path / "plain.h5ad")
    assert set(adata.obs["perturbation"]) == {"control"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"types": 0}, "types must be at least 1: got 0"),
        ({"perturbations": -1}, "perturbations must be at least 0"),
        ({"chunk": 0}, "chunk must be at least 1"),
        ({"confounding": 1.5}, "confounding must be from 0 to 1.*: got 1.5"),
        ({"null": -0.1}, "null must be from 0 to 1"),
        ({"gate": 1.0}, "gate must be from 0 to 1"),
        ({"median_library": 0}, "the library is log-normal"),
        ({"dispersion": (np.inf, 0.0)}, "dispersion is log-normal"),
        ({"types": 2, "conditions": 3, "confounding": 0.5}, "3 conditions and 2 types"),
        ({"combinations": [(0, 1)]}, "two of 0 perturbations"),
        ({"perturbations": 3, "combinations": [(1, 1)]}, r"got \(1, 1\)"),
        ({"perturbations": 3, "held_out": [(0, 1, 2)]}, r"got \(0, 1, 2\)"),
        ({"perturbations": 3, "combinations": [(0, 1)], "held_out": [(1, 0)]}, "once: got"),
    ],
)
def test_what_cannot_be_simulated_is_named(options, message):
    with pytest.raises(ValueError, match=message) as error:
        simulate(10, 5, seed=0, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conditions": 1}, r"has no \['conditions'\]"),
        ({"condition": 3}, r"condition must be whole numbers below 3: got \[3\]"),
        ({"type": np.full(300, -1)}, r"got \[-1\]"),
        ({"batch": 0.0}, "got float64"),
        ({"perturbation": [1, 0]}, r"shape \(300, 3\), or \(3,\)"),
        ({"time": np.zeros(299)}, r"got \(299,\)"),
    ],
)
def test_a_change_no_cell_can_have_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        full().mean(**change)


@pytest.mark.slow
def test_a_throughput_set_is_sparse_and_fits_in_memory():
    import tracemalloc

    tracemalloc.start()
    truth = simulate(20_000, 2000, seed=0, median_library=400, batches=2, gate=0.02, time=True)
    truth.to_anndata()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.08 < (truth.x > 0).mean() < 0.12
    assert peak < 1.5e9
