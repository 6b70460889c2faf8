"""Ranking variants by scores of cells: differences, errors, ties, and the verdict on zeros."""

import math

import numpy as np
import pytest
import torch

from pgm_expr.evaluation import difference, rank, standard_error, uncertainty, zero_inflation

CELLS = 400
COUNTS = "counts given library"


def scores(mean, seed=0, spread=1.0, seeds=2, moved=0.1, zeros=100.0, drawn=100.0):
    """Scores of a variant: cells differ a lot, seeds a little, 4 K adds `moved`."""
    cells = 50 * torch.randn(CELLS, generator=torch.Generator().manual_seed(99)).double()
    noise = torch.Generator().manual_seed(seed)

    def one():
        value = mean + cells + spread * torch.randn(CELLS, generator=noise)
        zero = torch.full((CELLS,), zeros).double()
        drawn_zero = drawn + torch.randn(CELLS, generator=noise)
        return {
            "elbo": value - 5,
            "iwae": value,
            "iwae_4k": value + moved,
            "zeros": zero,
            "zeros_drawn": drawn_zero.double(),
        }

    return [one() for _ in range(seeds)]


def test_best_comes_first_and_differences_are_paired():
    """Cells differ by 50 nats, yet half a nat between variants is many standard errors."""
    variants = {"low": scores(-700.5, 1), "high": scores(-700.0, 2)}
    rows = rank(variants, dict.fromkeys(variants, COUNTS))
    assert list(rows) == ["high", "low"]
    assert rows["high"]["diff"] == rows["high"]["dse"] == 0.0 and not rows["high"]["tie"]
    gap = torch.stack([s["iwae_4k"] for s in variants["low"]]).mean(0)
    gap = gap - torch.stack([s["iwae_4k"] for s in variants["high"]]).mean(0)
    assert rows["low"]["diff"] == pytest.approx(gap.mean().item())
    assert rows["low"]["dse"] == pytest.approx(gap.std().item() / math.sqrt(CELLS))
    assert rows["low"]["dse"] < 0.1 and not rows["low"]["tie"]


def test_means_and_spread_over_seeds():
    three = [
        {key: torch.full((CELLS,), v).double() for key in ("elbo", "iwae", "iwae_4k")}
        for v in (1.0, 2.0, 6.0)
    ]
    row = rank({"a": three}, {"a": COUNTS})["a"]
    assert row["heldout_iwae"] == 3.0
    assert row["heldout_iwae_sd"] == pytest.approx(math.sqrt(7.0))
    assert rank({"a": three[:1]}, {"a": COUNTS})["a"]["heldout_iwae_sd"] == 0.0


def test_a_small_difference_is_a_tie():
    variants = {"a": scores(-700.0, 1), "b": scores(-700.05, 2)}
    rows = rank(variants, dict.fromkeys(variants, COUNTS))
    (worse,) = [name for name in rows if rows[name]["diff"]]
    assert rows[worse]["tie"] and abs(rows[worse]["diff"]) < 2 * rows[worse]["dse"]


def test_a_difference_that_more_draws_would_move_away_is_a_tie():
    """Half a nat apart at 4 K, and K moved one of them by .6 and the other by nothing."""
    variants = {"a": scores(-700.0, 1, moved=0.6), "b": scores(-699.9, 2, moved=0.0)}
    rows = rank(variants, dict.fromkeys(variants, COUNTS))
    assert abs(rows["b"]["diff"]) > 2 * rows["b"]["dse"] and rows["b"]["tie"]


def test_measures_are_never_subtracted():
    """Each measure has a best of its own, however far apart they are."""
    variants = {"nb": scores(-700.0, 1), "zinb": scores(-701.0, 2), "detect": scores(-300.0, 3)}
    rows = rank(variants, {"nb": COUNTS, "zinb": COUNTS, "detect": "detection"})
    assert rows["detect"]["diff"] == rows["nb"]["diff"] == 0.0
    assert rows["zinb"]["diff"] == pytest.approx(-1.0, abs=0.2)


def paired(a, b):
    """Mean over cells, its standard error, and the deviation over pairs of seeds, by numpy."""
    ours, theirs = (np.stack([s["iwae_4k"].numpy() for s in side]) for side in (a, b))
    gap, pairs = ours.mean(0) - theirs.mean(0), min(len(a), len(b))
    seeds = (ours[:pairs] - theirs[:pairs]).mean(1)
    return gap.mean(), gap.std(ddof=1) / CELLS**0.5, seeds.std(ddof=1)


def test_difference_averages_over_seeds_cell_by_cell():
    a, b = scores(-700.0, 1), scores(-701.0, 2, seeds=3)
    gap, (mean, error, spread) = difference(a, b), paired(a, b)
    assert gap.shape == (CELLS,) and gap.mean().item() == pytest.approx(mean)
    assert mean == pytest.approx(1.0, abs=0.2)
    assert standard_error(gap) == pytest.approx(error)
    assert uncertainty(a, b) == pytest.approx((error, spread))
    assert torch.equal(difference(b, a), -gap)


@pytest.mark.parametrize("gain, use", [(1.0, "ZINB"), (0.0, "NB"), (-1.0, "NB")])
def test_zero_inflation_is_chosen_by_two_standard_errors(gain, use):
    nb, zinb = scores(-700.0, 1), scores(-700.0 + gain, 2)
    sentence = zero_inflation(nb, zinb)
    assert sentence.startswith(f"Use {use}:")
    mean, error, spread = paired(zinb, nb)
    assert f"{mean:+.2f} ± {math.hypot(error, spread / math.sqrt(2)):.2f} nats" in sentence


def test_a_gain_of_one_seed_alone_is_none():
    """Two nats better with one seed and no better with the other: training noise, not ZINB."""
    zinb = [*scores(-698.0, 3, seeds=1), *scores(-700.0, 4, seeds=1)]
    assert zero_inflation(scores(-700.0, 1), zinb).startswith("Use NB")
    error, spread = uncertainty(zinb, scores(-700.0, 1))
    assert error < 0.1 and spread == pytest.approx(2 / math.sqrt(2), abs=0.2)


@pytest.mark.parametrize("drawn, verdict", [(95.0, "underfits"), (100.0, "does not underfit")])
def test_zero_inflation_says_whether_nb_underfits_zeros(drawn, verdict):
    nb = scores(-700.0, 1, drawn=drawn)
    assert f"NB {verdict} zeros" in zero_inflation(nb, scores(-700.0, 2))
