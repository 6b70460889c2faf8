"""Ranking: chosen on validation cells, scored on test cells, ties, and the verdict on zeros."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from pgm_expr.evaluation import difference, rank, spread, zero_inflation

CELLS, SPLITS = 400, 5
COUNTS = "counts given library"


def scores(mean, seed=0, splits=SPLITS, seeds=2, *, apart=0.1, **more):
    """Fits of a variant: cells differ a lot, fits by `apart`, 4 K adds `moved`."""
    noise = torch.Generator().manual_seed(seed)
    return [
        [
            one_fit(mean + apart * torch.randn((), generator=noise), noise, split, **more)
            for _ in range(seeds)
        ]
        for split in range(splits)
    ]


def one_fit(mean, noise, split, moved=0.1, zeros=100.0, drawn=100.0, validation=0.0):
    cells = 50 * torch.randn(CELLS, generator=torch.Generator().manual_seed(split)).double()
    value = mean + cells + torch.randn(CELLS, generator=noise)
    return {
        "elbo": value - 5,
        "iwae": value,
        "iwae_4k": value + moved,
        "validation": value[:100] + validation,
        "zeros": torch.full((CELLS,), zeros).double(),
        "zeros_drawn": drawn + torch.randn(CELLS, generator=noise).double(),
    }


def ranked(**variants):
    return rank(variants, dict.fromkeys(variants, COUNTS))


def test_best_comes_first_and_differences_are_paired():
    """Cells differ by 50 nats, yet a nat between variants is many standard errors."""
    low, high = scores(-701.0, 1), scores(-700.0, 2)
    rows = ranked(low=low, high=high)
    assert list(rows) == ["high", "low"]
    assert rows["high"]["diff"] == rows["high"]["se"] == 0.0 and rows["high"]["tie"] is False
    found = difference(low, high)
    assert rows["low"]["diff"] == found.mean == pytest.approx(-1.0, abs=0.2)
    for part in ("se", "se_cells", "se_seeds", "se_splits"):
        assert rows["low"][part] == getattr(found, part)
    assert 0 < rows["low"]["se"] < 0.2 and rows["low"]["tie"] is False


def test_the_order_is_that_of_validation_cells():
    """A variant that only test cells favour is not first; its difference is positive."""
    rows = ranked(chosen=scores(-700.0, 1), other=scores(-699.0, 2, validation=-2.0))
    assert list(rows) == ["chosen", "other"]
    assert rows["other"]["diff"] == pytest.approx(1.0, abs=0.2)
    assert rows["chosen"]["validation"] > rows["other"]["validation"]
    assert rows["chosen"]["heldout_iwae"] < rows["other"]["heldout_iwae"]


def test_means_and_spread_over_the_seeds_of_a_split():
    keys = ("elbo", "iwae", "iwae_4k", "validation")
    three, six = (
        [{key: torch.full((CELLS,), v).double() for key in keys} for v in values]
        for values in ((1.0, 2.0, 6.0), (11.0, 12.0, 16.0))
    )
    row = ranked(a=[three, six])["a"]
    assert row["heldout_iwae"] == 8.0 and row["validation"] == 8.0
    assert row["heldout_iwae_sd"] == pytest.approx(math.sqrt(7.0))
    assert ranked(a=[three[:1], six[:1]])["a"]["heldout_iwae_sd"] == 0.0
    assert spread(torch.tensor([1.0, 2.0, 6.0])) == pytest.approx(math.sqrt(7.0))


def test_a_small_difference_is_a_tie():
    rows = ranked(a=scores(-700.0, 1), b=scores(-700.05, 2))
    (worse,) = [name for name in rows if rows[name]["diff"]]
    assert rows[worse]["tie"] is True and abs(rows[worse]["diff"]) < 2 * rows[worse]["se"]


def test_a_difference_that_splits_do_not_share_is_a_tie():
    """Half a nat in the mean, far beyond cells and seeds, but 2 nats of spread over splits."""
    gains = [3.0, -1.5, 2.0, -2.0, 1.0]
    better = [scores(-700.0 + gain, i, splits=i + 1)[i] for i, gain in enumerate(gains)]
    rows = ranked(a=scores(-700.0, 9), b=better)
    (row,) = [row for row in rows.values() if row["diff"]]
    assert abs(row["diff"]) > 2 * math.hypot(row["se_cells"], row["se_seeds"])
    assert row["tie"] is True and row["se"] > 1.0


def test_one_split_is_neither_a_tie_nor_a_win():
    rows = ranked(a=scores(-700.0, 1, splits=1), b=scores(-800.0, 2, splits=1))
    assert rows["b"]["se"] is rows["b"]["se_splits"] is rows["b"]["tie"] is None
    assert rows["b"]["se_cells"] > 0 and rows["b"]["diff"] == pytest.approx(-100.0, abs=1.0)


def test_a_difference_that_more_draws_would_move_away_is_a_tie():
    """Half a nat apart at 4 K, and K moved one of them by .6 and the other by nothing."""
    rows = ranked(a=scores(-700.0, 1, moved=0.6), b=scores(-699.9, 2, moved=0.0, validation=-2.0))
    assert abs(rows["b"]["diff"]) > 2.8 * rows["b"]["se"] and rows["b"]["tie"] is True


def test_measures_are_never_subtracted():
    """Each measure has a best of its own, however far apart they are."""
    variants = {"nb": scores(-700.0, 1), "zinb": scores(-701.0, 2), "detect": scores(-300.0, 3)}
    rows = rank(variants, {"nb": COUNTS, "zinb": COUNTS, "detect": "detection"})
    assert rows["detect"]["diff"] == rows["nb"]["diff"] == 0.0
    assert rows["zinb"]["diff"] == pytest.approx(-1.0, abs=0.2)


def by_numpy(a, b):
    """Mean and total standard error of a difference, with one seed per split."""
    gap = np.array(
        [
            (one["iwae_4k"] - two["iwae_4k"]).mean()
            for ours, theirs in zip(a, b, strict=True)
            for one, two in zip(ours, theirs, strict=True)
        ]
    )
    return gap.mean(), gap.std(ddof=1) * math.sqrt(1 / len(gap) + 0.2 / 0.72)


@pytest.mark.parametrize("gain, use", [(2.0, "ZINB"), (0.0, "NB"), (-2.0, "NB")])
def test_zero_inflation_is_chosen_by_two_standard_errors(gain, use):
    nb, zinb = (scores(v, i, seeds=1, apart=0.5) for i, v in ((1, -700.0), (2, -700.0 + gain)))
    sentence = zero_inflation(nb, zinb)
    assert sentence.startswith(f"Use {use}:")
    mean, error = by_numpy(zinb, nb)
    assert f"{mean:+.2f} ± {error:.2f} nats" in sentence
    assert "over cells, seeds and 5 splits; 5 pairs of fits" in sentence


def test_zero_inflation_of_one_split_says_so():
    nb, zinb = scores(-700.0, 1, splits=1), scores(-699.0, 2, splits=1)
    sentence = zero_inflation(nb, zinb)
    (ours,), (theirs,) = zinb, nb
    gap = sum(a["iwae_4k"] - b["iwae_4k"] for a, b in zip(ours, theirs, strict=True)).numpy() / 2
    found = difference(zinb, nb)
    assert found.se_cells == pytest.approx(stats.sem(gap))
    error = math.hypot(found.se_cells, found.se_seeds)
    assert sentence.startswith("Use ZINB:") and f"{gap.mean():+.2f} ± {error:.2f}" in sentence
    assert "over cells and seeds of one split; 2 pairs of fits" in sentence


def test_a_gain_of_one_seed_alone_is_none():
    """Two nats better with one seed and no better with the other: training noise, not ZINB."""
    nb = scores(-700.0, 1, splits=1)
    zinb = [[scores(-698.0, 3, splits=1)[0][0], scores(-700.0, 4, splits=1)[0][0]]]
    assert zero_inflation(nb, zinb).startswith("Use NB")
    found = difference(zinb, nb)
    assert found.se_cells < 0.1 and found.se_seeds == pytest.approx(1.0, abs=0.2)


def test_a_gain_of_one_split_alone_is_none():
    nb, zinb = scores(-700.0, 1), scores(-700.0, 2)
    zinb[0] = scores(-690.0, 3)[0]
    assert zero_inflation(nb, zinb).startswith("Use NB")


@pytest.mark.parametrize("drawn, verdict", [(95.0, "underfits"), (100.0, "does not underfit")])
def test_zero_inflation_says_whether_nb_underfits_zeros(drawn, verdict):
    nb = scores(-700.0, 1, drawn=drawn)
    assert f"NB {verdict} zeros" in zero_inflation(nb, scores(-700.0, 2))
