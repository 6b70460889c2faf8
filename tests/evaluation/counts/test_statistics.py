import numpy as np
import pytest
from scipy import sparse

from pgm_expr.evaluation.counts.statistics import compare_counts, gene_statistics

KEYS = (
    "mean_slope",
    "variance_slope",
    "mean_log_ratio",
    "variance_log_ratio",
    "total_variance_ratio",
)
GENES = 300


def draw_cells(cells, seed, theta=1.0, gate=0.0):
    """NB counts of genes whose means span 0.05 to 20: the same genes for every seed."""
    rng = np.random.default_rng(seed)
    mean = np.geomspace(0.05, 20, GENES)
    x = rng.poisson(mean * rng.gamma(theta, 1 / theta, (cells, GENES)))
    return x * (rng.random(x.shape) >= gate)


def draw_poisson(cells, seed):
    return np.random.default_rng(seed).poisson(np.geomspace(0.05, 20, GENES), (cells, GENES))


HELD_OUT, REFERENCE = draw_cells(1000, 1), draw_cells(4000, 2)


def test_statistics_of_a_hand_computed_matrix():
    x = np.array([[0, 1, 4], [0, 3, 0], [0, 2, 0], [0, 2, 0]])
    mean, variance, zero_rate = gene_statistics(x)
    np.testing.assert_allclose(mean, [0, 2, 1])
    np.testing.assert_allclose(variance, [0, 2 / 3, 4])
    np.testing.assert_allclose(zero_rate, [1, 0, 0.75])


@pytest.mark.parametrize(
    "form", [sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix, sparse.coo_array]
)
def test_sparse_statistics_equal_dense(form):
    for ours, dense in zip(
        gene_statistics(form(HELD_OUT)), gene_statistics(HELD_OUT), strict=True
    ):
        np.testing.assert_allclose(ours, dense, rtol=1e-12, atol=1e-15)


def test_stored_zeros_and_duplicates_do_not_count():
    # Entries (0, 0) = 1 + 2 stored twice and (1, 1) = 0 stored: the dense matrix is [[3, 0]] * 1.
    x = sparse.csr_matrix(([1.0, 2.0, 0.0], [0, 0, 1], [0, 2, 3]), shape=(2, 2))
    mean, variance, zero_rate = gene_statistics(x)
    np.testing.assert_allclose(mean, [1.5, 0])
    np.testing.assert_allclose(variance, [4.5, 0])
    np.testing.assert_allclose(zero_rate, [0.5, 1])
    assert x.nnz == 3, "the caller's matrix was changed"


def test_a_large_mean_does_not_cancel_the_variance():
    x = 1e8 + np.array([[0.0], [1.0], [2.0], [3.0]])
    for form in (x, sparse.csr_matrix(x)):
        np.testing.assert_allclose(gene_statistics(form)[1], [5 / 3], rtol=1e-6)


def test_float32_counts_are_summed_in_float64():
    x = np.random.default_rng(0).poisson(3.0, (200_000, 1))
    for form in (x.astype(np.float32), sparse.csr_matrix(x.astype(np.float32))):
        np.testing.assert_allclose(gene_statistics(form)[0], x.mean(), rtol=1e-12)
        np.testing.assert_allclose(gene_statistics(form)[1], x.var(ddof=1), rtol=1e-12)


def test_comparison_of_a_hand_computed_example():
    held_out = np.array([[100, 0, 10, 0], [300, 40, 50, 1]])  # means 200, 20, 30, .5
    draws = np.array([[200, 0, 120, 0], [600, 80, 120, 0]])  # means 400, 40, 120, 0
    result = compare_counts(draws, held_out, held_out, minimum=40)
    slope = np.polyfit(np.log([200, 20, 30]), np.log([400, 40, 120]), 1)[0]
    assert result["mean_slope"] == pytest.approx(slope)
    assert result["mean_log_ratio"] == pytest.approx(np.log(2))
    assert result["zero_rate_mae"] == pytest.approx((0 + 0 + 0 + 0.5) / 4)
    assert result["total_variance_ratio"] == pytest.approx((80000 + 3200 + 0) / (20000 + 1600.5))
    # Variances 80000, 3200 and 0, the last floored at half a count in two cells.
    drawn, real = np.log([80000, 3200, 0.25]), np.log([20000, 800, 800])
    assert result["variance_log_ratio"] == pytest.approx(np.median(np.abs(drawn - real)))
    assert result["variance_slope"] == pytest.approx(np.polyfit(real, drawn, 1)[0])
    floor = {key: result[f"{key}_floor"] for key in KEYS} | {"z": result["zero_rate_floor"]}
    assert floor == pytest.approx(dict(zip([*KEYS, "z"], [1, 1, 0, 0, 1, 0], strict=True)))


def test_draws_from_the_same_distribution_score_at_the_floor():
    # Spread of each difference to the floor over 40 other draws; a limit of 5 of these sds is
    # passed by chance in less than one of a million seeds.
    runs = [
        compare_counts(draw_cells(1000, 10 + s), HELD_OUT, REFERENCE, subsets=5) for s in range(40)
    ]
    for key, floor in [("zero_rate_mae", "zero_rate_floor"), *((k, f"{k}_floor") for k in KEYS)]:
        excess = np.array([run[key] - run[floor] for run in runs])
        assert abs(excess[0]) < 5 * excess[1:].std(), key
    assert runs[0]["mean_slope"] == pytest.approx(1, abs=0.05)
    assert runs[0]["mean_log_ratio"] < 0.1
    assert runs[0]["zero_rate_mae"] < 0.02


def test_poisson_draws_miss_the_variance_but_not_the_mean():
    result = compare_counts(draw_poisson(1000, 3), HELD_OUT, REFERENCE)
    assert result["mean_slope"] == pytest.approx(1, abs=0.05)
    assert result["mean_log_ratio"] < 0.1
    # For mean m the variance is m, not m + m^2: the log-log slope falls to about 1/2 at large m,
    # and the median gene's ratio is log(1 + m).
    assert result["variance_slope"] < 0.8 < 0.95 < result["variance_slope_floor"]
    assert result["variance_log_ratio"] > 5 * result["variance_log_ratio_floor"]
    mean = np.geomspace(0.05, 20, GENES)
    expected = mean.sum() / (mean + mean**2).sum()
    assert result["total_variance_ratio"] == pytest.approx(expected, rel=0.1)
    assert result["total_variance_ratio_floor"] == pytest.approx(1, abs=0.1)


def test_a_gate_the_draws_lack_shows_in_the_zero_rate():
    gate = 0.2
    gated, reference = draw_cells(1000, 4, gate=gate), draw_cells(4000, 5, gate=gate)
    result = compare_counts(draw_cells(1000, 6), gated, reference)
    own_zeros = 1 / (1 + np.geomspace(0.05, 20, GENES))  # an NB with theta = 1
    assert result["zero_rate_mae"] == pytest.approx(gate * (1 - own_zeros).mean(), abs=0.01)
    assert result["zero_rate_floor"] < 0.02


def test_a_gene_never_drawn_counts_against_the_model():
    draws = draw_cells(1000, 7)
    draws[:, -200:] = 0
    result = compare_counts(draws, HELD_OUT, REFERENCE)
    assert result["mean_log_ratio"] > 5 and np.isfinite(list(result.values())).all()


def test_sparse_input_gives_the_same_comparison():
    draws = draw_cells(1500, 8)
    dense = compare_counts(draws, HELD_OUT, REFERENCE)
    for form in (sparse.csr_matrix, sparse.coo_array):
        stored = compare_counts(*(form(x) for x in (draws, HELD_OUT, REFERENCE)))
        assert stored == pytest.approx(dense, rel=1e-10)


def test_the_floor_is_seeded_and_steadier_with_more_subsets():
    def floors(subsets):
        runs = (
            compare_counts(HELD_OUT, HELD_OUT, REFERENCE, subsets=subsets, seed=s)
            for s in range(20)
        )
        return np.std([run["total_variance_ratio_floor"] for run in runs])

    assert floors(16) < 0.6 * floors(1)  # 1/4 expected, the sd of 20 is known to some 16%
    once = compare_counts(HELD_OUT, HELD_OUT, REFERENCE, seed=3)
    assert once == compare_counts(HELD_OUT, HELD_OUT, REFERENCE, seed=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((HELD_OUT[:, 1:], HELD_OUT, REFERENCE), "differ in genes"),
        ((HELD_OUT, HELD_OUT, REFERENCE[:999]), "1000 reference cells: got 999"),
        ((HELD_OUT, 0 * HELD_OUT, REFERENCE), "0 genes have 50"),
        ((HELD_OUT * np.nan, HELD_OUT, REFERENCE), "gene 0 is not"),
        ((HELD_OUT[:1], HELD_OUT, REFERENCE), "two cells: got 1"),
    ],
)
def test_what_cannot_be_compared_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        compare_counts(*arguments)
