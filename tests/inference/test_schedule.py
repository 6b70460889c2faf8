"""How beta rises: to exactly 1 by the end of the warm-up, and what a fit makes of it."""

import numpy as np
import pytest
import torch

from pgm_expr.inference import MeanField, Plan, fit, score
from pgm_expr.inference.schedule import cyclical, warmup

LENGTHS = [(1, 1), (8, 1), (8, 2), (10, 3), (12, 3), (60, 4), (7, 2)]  # epochs, cycles


@pytest.mark.parametrize("epochs", [0, 1, 2, 7, 20, 1000])
def test_warmup_ends_at_exactly_one_and_stays(epochs):
    shares = [warmup(epoch, epochs) for epoch in range(epochs + 5)]
    assert shares[epochs:] == 5 * [1.0]
    assert all(0 < share < 1 for share in shares[:epochs])


@pytest.mark.parametrize("epochs", [2, 7, 20])
def test_warmup_rises_by_equal_steps(epochs):
    """From 0, one step before the first epoch, to 1."""
    shares = [warmup(epoch, epochs) for epoch in range(-1, epochs + 1)]
    assert shares[0] == 0 and shares[-1] == 1
    assert np.ptp(np.diff(shares)) < 1e-12


@pytest.mark.parametrize("epochs, cycles", LENGTHS)
def test_cycles_end_at_exactly_one_and_stay(epochs, cycles):
    shares = [cyclical(epoch, epochs, cycles) for epoch in range(epochs + 5)]
    assert shares[epochs - 1 :] == 6 * [1.0]
    assert all(0 < share <= 1 for share in shares)


@pytest.mark.parametrize("epochs, cycles", LENGTHS[1:])
def test_there_are_as_many_rises_as_cycles(epochs, cycles):
    """One begins wherever beta falls, and at the start."""
    shares = [cyclical(epoch, epochs, cycles) for epoch in range(epochs)]
    falls = [after < before for before, after in zip(shares, shares[1:], strict=False)]
    assert 1 + sum(falls) == cycles and shares[0] < 1


@pytest.mark.parametrize("epochs, cycles", [(8, 1), (12, 3), (60, 5)])
def test_half_of_a_cycle_rises_linearly_and_half_stays(epochs, cycles):
    length = epochs // cycles
    first = [cyclical(epoch, epochs, cycles) for epoch in range(length)]
    rising = np.diff([0.0, *(share for share in first if share < 1)])
    assert np.ptp(rising) < 1e-12 and max(first[: len(rising)]) + rising[0] >= 1 - 1e-12
    assert first.count(1.0) == length // 2 and first == sorted(first)
    for start in range(0, epochs, length):
        again = [cyclical(epoch, epochs, cycles) for epoch in range(start, start + length)]
        assert again == pytest.approx(first)


def test_cycles_of_four_epochs_as_written_out():
    assert [cyclical(epoch, 8, 2) for epoch in range(8)] == 2 * [0.4, 0.8, 1.0, 1.0]


def test_a_single_cycle_is_a_warm_up_of_half_the_length():
    for epoch in range(15):
        assert cyclical(epoch, 11, 1) == pytest.approx(warmup(epoch, 5))


def trained(table, pair, **settings):
    """An objective after a short fit, and its history."""
    objective = MeanField(*pair(), cells=table.cells)
    plan = Plan(learning_rate=0.02, weight_decay=0.0, **settings)
    return objective, list(fit(objective, table.batches, table.validation, plan))


@pytest.mark.parametrize("beta", [1.0, 3.0])
def test_a_plan_with_cycles_drives_beta_row_by_row(table, pair, beta):
    settings = dict(epochs=15, warmup_epochs=12, cycles=3, beta=beta)
    objective, history = trained(table, pair, **settings)
    wanted = 3 * [0.4, 0.8, 1.0, 1.0] + 3 * [1.0]
    assert [row["beta"] / beta for row in history] == pytest.approx(wanted, rel=1e-6)
    assert all(row["beta"] == beta for row in history[12:]) and objective.beta == beta


def test_without_cycles_the_rise_is_the_warm_up(table, pair):
    _, history = trained(table, pair, epochs=5, warmup_epochs=3)
    assert [row["beta"] for row in history] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_without_a_warm_up_beta_is_constant(table, pair):
    for cycles in (0, 2):
        _, history = trained(table, pair, epochs=3, warmup_epochs=0, cycles=cycles, beta=0.5)
        assert [row["beta"] for row in history] == 3 * [0.5]


def easy_at_first(table, epochs):
    """A validation set that is nearly without counts for so many epochs."""
    calls = iter(range(100))

    def batches():
        few = next(calls) < epochs
        return (b | {"x": b["x"].clamp(max=1.0)} if few else b for b in table.validation())

    return batches


@pytest.mark.parametrize("cycles", [0, 2])
def test_the_best_epoch_is_chosen_after_the_warm_up_only(table, pair, cycles):
    objective, validation = MeanField(*pair(), cells=table.cells), easy_at_first(table, 8)
    plan = Plan(epochs=12, warmup_epochs=8, cycles=cycles, learning_rate=0.02)
    history = list(fit(objective, table.batches, validation, plan))
    bounds, kept = [row["validation"] for row in history], score(objective, table.validation())
    assert max(bounds[:8]) > max(bounds[8:]) + 1
    assert kept == pytest.approx(max(bounds[8:]), rel=1e-6)


def test_patience_counts_from_the_end_of_the_warm_up(table, pair):
    """With a step of nothing no epoch is better than the first that counts."""
    objective = MeanField(*pair(), cells=table.cells).eval()
    before = score(objective, table.validation())
    plan = Plan(epochs=30, warmup_epochs=6, cycles=2, patience=3, learning_rate=1e-12)
    history = list(fit(objective, table.batches, table.validation, plan))
    assert 6 + 3 <= len(history) <= 6 + 3 + 2
    assert torch.isclose(torch.tensor(before), torch.tensor(history[-1]["validation"]))
