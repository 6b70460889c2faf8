"""What the probe must find, must not find, and must not be fooled by."""

import numpy as np
import pytest

from pgm_expr.evaluation import leakage
from pgm_expr.evaluation.latent.fitted_probes import linear, neighbours


def states(seed, shift=0.0, cells=400):
    """States of two types of which one comes mostly from level 1; levels shift the first axis."""
    rng = np.random.default_rng(seed)
    types = rng.integers(2, size=cells)
    levels = (rng.random(cells) < np.where(types == 1, 0.8, 0.3)).astype(int)
    z = rng.normal(size=(cells, 3))
    z[:, 1] += 4 * types
    z[:, 0] += shift * levels
    return z, levels, types


def probed(shift=0.0, grouped=True, **settings):
    (a, levels, types), (b, asked, others) = states(0, shift), states(1, shift)
    groups = {"train_groups": types, "test_groups": others} if grouped else {}
    return leakage(a, levels, b, asked, **groups, permutations=19, **settings)


def test_a_shift_is_found():
    found = probed(shift=2.0)
    assert found.p == 0.05 and found.groups == 2
    # two normals 2 apart are told apart with accuracy Phi(1) = .841; 160 to 320 cells a mean
    assert abs(found.accuracy - 0.841) < 0.05 and abs(found.chance - 0.5) < 0.02


@pytest.mark.parametrize("probe", [linear, neighbours])
def test_chance_is_chance(probe):
    """p is uniform over 5 values without a shift: 20 seeds of which 4 reach .2 on average."""
    small = 0
    for seed in range(20):
        (a, levels, types), (b, asked, others) = states(seed), states(1000 + seed)
        groups = {"train_groups": types, "test_groups": others}
        found = leakage(a, levels, b, asked, **groups, probe=probe, permutations=4)
        small += found.p <= 0.2
    assert small <= 10  # binomial(20, 1 / 5): above 10 once in 1,700


def test_levels_that_follow_the_type_are_no_leakage_within_types():
    assert probed(grouped=False).p == 0.05  # the type alone tells the level
    assert probed(grouped=True).p > 0.05


def test_a_group_with_too_few_cells_is_left_out():
    a, levels, types = states(0)
    levels = np.where(types == 0, 0, levels)  # type 0 comes from level 0 alone
    found = leakage(a, levels, a, levels, train_groups=types, test_groups=types, permutations=9)
    assert found.groups == 1
    with pytest.raises(ValueError, match="no group has two levels"):
        leakage(a, np.zeros(400), a, np.zeros(400), permutations=9)
