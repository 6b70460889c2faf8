"""Drawn cells against real ones: equal ones are not told apart, others are."""

import numpy as np
import pytest

from pgm_expr.evaluation.counts.two_sample import markers_on, two_sample

GENES = 60


def cells(n, seed, theta=3.0, types=2, depth=1.0):
    """NB cells of types with genes of their own."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(types, size=n)
    base = np.exp(np.random.default_rng(5).normal(0.5, 1, (2, GENES)))
    rate = depth * base[kind % 2] * rng.gamma(theta, 1 / theta, (n, GENES))
    return rng.poisson(rate), kind


@pytest.fixture(scope="module")
def real():
    return cells(300, 0)[0], cells(800, 1)[0]


def test_cells_of_the_same_kind_are_not_told_apart(real):
    """Within the spread of an AUC of 300 against 300 (sd .025), p above .005."""
    found = two_sample(cells(300, 2)[0], *real)
    assert found.auc < 0.6 and found.auc_floor < 0.6
    assert min(found.energy_p, found.mmd_p) > 0.005
    assert found.nearest == pytest.approx(found.nearest_floor, rel=0.1)


@pytest.mark.parametrize(
    "wrong", [dict(theta=100.0), dict(types=1), dict(depth=1.5)], ids=["smooth", "type", "depth"]
)
def test_wrong_cells_are_told_apart(real, wrong):
    found = two_sample(cells(300, 2, **wrong)[0], *real)
    assert found.auc > found.auc_floor + 0.1


def test_a_missing_type_shows_in_both_distances(real):
    found = two_sample(cells(300, 2, types=1)[0], *real)
    assert max(found.energy_p, found.mmd_p) < 0.01
    assert found.energy > found.energy_floor and found.mmd > found.mmd_floor


def test_copies_of_cells_of_the_fit_are_near_them(real):
    held_out, reference = real
    found = two_sample(reference[:300], held_out, reference)
    assert found.nearest < 0.8 * found.nearest_floor


def test_small_samples_are_refused(real):
    with pytest.raises(ValueError, match="needs 100 cells a side: got 31"):
        two_sample(cells(31, 2)[0], *real)


class TestMarkers:
    def test_are_on_where_they_should_be(self):
        draws, held_out, known = (cells(n, s) for n, s in ((200, 1), (200, 2), (400, 3)))
        for each in markers_on(*draws, *held_out, *known).values():
            assert abs(each.drawn - each.held_out) < 4 * each.se < 0.16 and each.held_out > 0.7

    def test_exchanged_types_are_off(self):
        (x, kind), held_out, known = (cells(n, s) for n, s in ((200, 1), (200, 2), (400, 3)))
        for each in markers_on(x, 1 - kind, *held_out, *known).values():
            assert each.drawn < each.held_out - max(0.2, 4 * each.se)

    def test_no_type_at_all_is_said(self):
        some = cells(5, 0)
        with pytest.raises(ValueError, match="no type has ten cells"):
            markers_on(*some, *some, *some)


class TestColumns:
    """Cells of two batches with an effect; half of those that ignore it are right by chance."""

    def sides(self, aware):
        rng = np.random.default_rng(0)

        def some(n, follows):
            batch = rng.integers(2, size=n)
            effect = batch if follows else rng.integers(2, size=n)
            rate = np.where(np.arange(GENES) < 20, 2.0 + 3 * effect[:, None], 5.0)
            return rng.poisson(rate), batch[:, None].astype(float)

        return [some(300, aware), some(300, True), some(600, True)]

    @pytest.mark.parametrize("aware", [True, False])
    def test_a_story_that_ignores_the_batch_is_found_by_its_column(self, aware):
        counts, columns = zip(*self.sides(aware), strict=True)
        blind, seeing = two_sample(*counts), two_sample(*counts, columns=columns)
        assert blind.auc < 0.6
        assert (seeing.auc < 0.6) if aware else (seeing.auc > 0.7)

    def test_equal_samples_are_within_the_stated_spread(self):
        """Of 20 pairs of samples, none of four standard deviations, and the sd is not below."""
        aucs = []
        for seed in range(20):
            parts = (
                cells(100, 3 * seed)[0],
                cells(100, 3 * seed + 1)[0],
                cells(200, 3 * seed + 2)[0],
            )
            found = two_sample(*parts, permutations=1)
            aucs.append((found.auc - 0.5) / found.auc_sd)
        assert np.max(aucs) < 4 and np.std(aucs) < 1.4
