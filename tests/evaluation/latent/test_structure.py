"""Numbers read from states, variance that metadata explain: algebra, nulls, planted structure."""

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression

from pgm_expr.evaluation import explained, readability
from pgm_expr.evaluation.latent.fitted_probes import neighbours_mean, ridge

PROBES = pytest.mark.parametrize("probe", [ridge, neighbours_mean])


def states(seed, slope=0.0, cells=300):
    """States of two types whose numbers differ; numbers shift the first axis by `slope`."""
    rng = np.random.default_rng(seed)
    types = rng.integers(2, size=cells)
    numbers = 2.0 * types + rng.normal(size=cells)
    z = rng.normal(size=(cells, 3))
    z[:, 1] += 4 * types
    z[:, 0] += slope * (numbers - 2 * types)
    return z, numbers, types


def read(slope=0.0, seeds=(0, 1), grouped=True, **settings):
    (a, numbers, types), (b, asked, others) = (states(seed, slope) for seed in seeds)
    groups = {"train_groups": types, "test_groups": others} if grouped else {}
    return readability(a, numbers, b, asked, **groups, **settings)


class TestReadability:
    @PROBES
    def test_a_number_that_states_follow_is_found(self, probe):
        """Slope 2: R^2 of the best guess is 4 / 5."""
        found = read(2.0, probe=probe, permutations=19)
        assert found.p == 0.05 and found.groups == 2
        assert abs(found.r2 - 0.8) < 0.1 and -0.15 < found.chance < 0

    def test_neighbours_see_a_curve(self):
        """The number is the square of an axis: no line rises with it."""
        sides = [np.random.default_rng(seed).normal(size=(400, 2)) for seed in (0, 1)]
        told = [each for z in sides for each in (z, z[:, 0] ** 2)]
        straight, curved = (readability(*told, probe=p) for p in (ridge, neighbours_mean))
        assert straight.r2 < 0.1 and curved.r2 > 0.7

    @PROBES
    def test_chance_is_chance(self, probe):
        """p is uniform over 5 values: binomial(20, 1 / 5) is above 10 once in 1,700."""
        small = [
            read(seeds=(s, 1000 + s), probe=probe, permutations=4).p <= 0.2 for s in range(20)
        ]
        assert sum(small) <= 10

    @PROBES
    def test_numbers_that_follow_the_type_are_not_read_within_types(self, probe):
        assert read(grouped=False, probe=probe, permutations=19).p == 0.05
        assert read(grouped=True, probe=probe, permutations=19).p > 0.05

    def test_missing_numbers_are_left_out(self):
        (z, numbers, _), (other, asked, _) = states(0, 2.0), states(1, 2.0)
        some = np.where(np.arange(300) < 100, numbers, np.nan)
        found = readability(z, some, other, asked, permutations=9)
        assert found == readability(z[:100], numbers[:100], other, asked, permutations=9)

    def test_too_few_cells_are_refused(self):
        z = np.zeros((30, 2))
        with pytest.raises(ValueError, match="^no group has 20 training and 20 test cells"):
            readability(z, np.arange(30.0), z[:19], np.arange(19.0))
        with pytest.raises(ValueError, match="whose numbers are known and differ"):
            readability(z, np.ones(30), z, np.ones(30))


@pytest.fixture
def told():
    """States with their levels, of which one in ten is missing, and numbers."""
    rng = np.random.default_rng(0)
    levels, numbers = rng.integers(-1, 9, 500).clip(-1, 3), rng.normal(size=500)
    z = rng.normal(size=(500, 4))
    z[:, 0] += 2 * levels + numbers
    return z, levels, numbers


class TestExplained:
    def test_levels_explain_the_sum_of_squares_between_groups(self, told):
        z, levels, _ = told
        found, known = explained(z, [levels], permutations=9), levels >= 0
        middle = z[known].mean(0)
        between = sum(
            (levels == k).sum() * ((z[levels == k].mean(0) - middle) ** 2).sum() for k in range(4)
        )
        assert found.share == pytest.approx(between / ((z[known] - middle) ** 2).sum())
        assert found.cells == known.sum() and found.p == 0.1

    def test_a_number_explains_its_squared_correlation(self, told):
        z, _, numbers = told
        expected = stats.pearsonr(z[:, 0], numbers).statistic ** 2
        assert explained(z[:, :1], [numbers]).share == pytest.approx(expected)

    def test_together_and_beyond_are_differences_of_linear_models(self, told):
        z, levels, numbers = told
        z, levels, numbers = (each[levels >= 0] for each in told)
        hot = np.eye(4)[levels]
        both = np.column_stack([hot, numbers])
        total = ((z - z.mean(0)) ** 2).sum()
        joint, alone = (
            1 - ((z - LinearRegression().fit(x, z).predict(x)) ** 2).sum() / total
            for x in (both, hot)
        )
        assert explained(z, [levels, numbers]).share == pytest.approx(joint)
        beyond = explained(z, [numbers], given=[levels])
        assert beyond.share == pytest.approx(joint - alone) and beyond.p < 0.01

    def test_what_is_nested_in_the_given_adds_nothing(self, told):
        z, levels, _ = told
        coarse = np.where(levels < 0, -1, levels // 2)
        found = explained(z, [coarse], given=[levels])
        assert found.share == pytest.approx(0, abs=1e-12) and found.p == 1

    def test_units_do_not_matter(self, told):
        z, levels, numbers = told
        found = explained(z, [numbers], given=[levels])
        again = explained(1e3 * z, [1e6 + 1e-6 * numbers], given=[levels])
        assert again.share == pytest.approx(found.share, rel=1e-3)

    def test_chance_is_rank_over_cells(self, told):
        """The mean of 500 permutations, standard error .0003, is (levels - 1) / (N - 1)."""
        z, levels, _ = told
        found = explained(z, [levels], permutations=500)
        assert found.chance == pytest.approx(3 / (found.cells - 1), abs=0.0013)

    @pytest.mark.parametrize("given", [0, 1])
    def test_no_structure_is_at_the_null(self, given):
        """p is uniform over 5 values, also where the given column explains a lot and is
        correlated with the one asked about: above 10 of 20 once in 1,700."""
        small = 0
        for seed in range(20):
            rng = np.random.default_rng(seed)
            known = rng.normal(size=100)
            z = rng.normal(size=(100, 2)) + 3 * given * known[:, None]
            asked = (rng.normal(size=100) + given * known > 0).astype(int)
            found = explained(z, [asked], given=[known][:given], permutations=4, seed=seed)
            small += found.p <= 0.2
        assert small <= 10

    def test_a_confounded_batch_explains_little_beyond_the_type(self):
        rng = np.random.default_rng(1)
        types = rng.integers(2, size=400)
        batch = (rng.random(400) < np.where(types, 0.9, 0.1)).astype(int)
        z = rng.normal(size=(400, 2)) + 4 * types[:, None]
        assert explained(z, [batch]).share > 0.4
        beyond = explained(z, [batch], given=[types])
        assert beyond.share < 0.01 and beyond.p > 0.01

    def test_what_would_mean_nothing_is_refused(self, told):
        z, levels, numbers = told
        cases = [
            (
                z[:19],
                levels[:19],
                "^1[0-9] cells without a missing value are too few for 1 columns",
            ),
            (z, np.full(500, np.nan), "^0 cells without a missing value are too few"),
            (z, np.arange(500), "^500 cells .* too few for 500 columns. Pass 1000 or more"),
            (z, np.zeros(500, int), "^the columns are the same in all 500 cells"),
            (np.ones((500, 2)), numbers, "^states do not vary over 500 cells"),
        ]
        for states, column, match in cases:
            with pytest.raises(ValueError, match=match):
                explained(states, [column])
