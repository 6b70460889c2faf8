"""Support of a condition: figures against closed forms, and the rule at its limits."""

import numpy as np
import pytest

from pgm_expr.evaluation.standardise import observe
from pgm_expr.evaluation.support import Support, cramers_v, heterogeneity, separation
from pgm_expr.simulate import simulate


def support(**changes):
    full = dict(condition="c=1", strata="type", training_cells=80, targets=100, share=1.0)
    return Support(**full | changes)


RULE = [
    (dict(), "good"),
    (dict(share=0.95), "good"),
    (dict(share=0.94), "partial"),
    (dict(training_cells=49), "partial"),
    (dict(share=0.1), "partial"),
    (dict(share=0.09), "none"),
    (dict(share=0.74, by_states=True), "none"),
    (dict(share=0.75, by_states=True), "partial"),
    (dict(heterogeneity=0.21), "none"),
    (dict(heterogeneity=0.2), "good"),
    (dict(targets=0, share=1.0), "good"),
]


@pytest.mark.parametrize(("changes", "verdict"), RULE)
def test_the_rule(changes, verdict):
    found = support(**changes)
    assert found.verdict == verdict == found.to_dict()["verdict"]
    assert "\n" not in found.sentence() and "nan" not in found.sentence()


def world(confounding, strata):
    truth = simulate(2000, 100, seed=1, types=4, conditions=2, confounding=confounding)
    return heterogeneity(observe(truth.x, strata(truth), truth.condition, (4, 2)), 1)[0]


def test_effects_differ_as_much_as_strata_where_these_pair_types():
    assert world(0.5, lambda truth: truth.type) < 0.1
    paired = world(1.0, lambda truth: truth.type // 2)
    assert paired > 0.5


def test_cramers_v_of_a_constant_is_undefined_and_of_noise_small():
    noise = np.random.default_rng(0)
    assert np.isnan(cramers_v(np.zeros(9, int), np.arange(9)))
    assert cramers_v(noise.integers(2, size=4000), noise.integers(3, size=4000)) < 0.06


def test_separation_is_chance_for_noise_and_one_for_types():
    truth = simulate(400, 50, seed=0, types=2, conditions=2, null=1.0)
    assert abs(separation(truth.x, truth.condition == 1) - 0.5) < 0.12
    assert separation(truth.x, truth.type == 1) > 0.95
    assert np.isnan(separation(truth.x, np.arange(400) < 9))
