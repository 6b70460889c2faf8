"""Randomised PIT, log score and CRPS against closed forms, and where they must fire."""

import numpy as np
import pytest
import torch
from pyro import distributions as dist
from scipy import stats

from pgm_expr.distributions import NegativeBinomial, ZeroInflatedNegativeBinomial
from pgm_expr.evaluation.counts.pit import (
    bins,
    by_bin,
    passes,
    predictions,
    shares,
    shares_by_cell,
)

CELLS, GENES = 400, 60
MEANS = torch.logspace(-1.5, 1.5, GENES)


def nb(theta=2.0):
    return NegativeBinomial(MEANS.log().expand(CELLS, -1), torch.tensor(theta).log()).to_event(1)


def zinb(gate):
    logits = torch.tensor(gate).logit()
    return ZeroInflatedNegativeBinomial(
        MEANS.log().expand(CELLS, -1), torch.tensor(2.0).log(), logits
    ).to_event(1)


def poisson():
    return dist.Poisson(MEANS.expand(CELLS, -1)).to_event(1)


def judged(truth, model, draws=99):
    torch.manual_seed(0)
    batch = {"x": truth.sample()}
    return batch["x"], predictions(lambda seen, asked: model, [(batch, batch)], draws=draws)


@pytest.mark.parametrize("truth", [nb(), poisson(), zinb(0.4)], ids=["nb", "poisson", "zinb"])
def test_is_uniform_for_counts_of_the_model(truth):
    """Kolmogorov-Smirnov over 24,000 entries: fails for one seed in 10,000."""
    _, found = judged(truth, truth)
    assert stats.kstest(found.pit.flatten().numpy(), "uniform").pvalue > 1e-4


def test_is_uniform_with_few_draws_too():
    _, found = judged(nb(), nb(), draws=2)
    assert stats.kstest(found.pit.flatten().numpy(), "uniform").pvalue > 1e-4


@pytest.mark.parametrize(
    "truth, model", [(nb(), poisson()), (zinb(0.4), nb())], ids=["overdispersed", "inflated"]
)
def test_fires_for_counts_of_another_model(truth, model):
    x, found = judged(truth, model)
    assert stats.kstest(found.pit.flatten().numpy(), "uniform").pvalue < 1e-12
    rows = by_bin(found.pit.numpy(), x.numpy())
    assert not passes(rows).all()


def test_bins_of_the_right_model_pass_and_cover_every_gene_once():
    x, found = judged(nb(), nb())
    rows = by_bin(found.pit.numpy(), x.numpy())
    assert passes(rows).all() and rows["genes"].sum() == GENES and rows["genes"].min() >= 20


def test_types_of_few_cells_are_left_out():
    x, found = judged(nb(), nb())
    types = np.repeat(["many", "few"], [CELLS - 10, 10])
    assert set(by_bin(found.pit.numpy(), x.numpy(), types)["type"]) == {"many"}


def test_shares_count_both_tails():
    found = shares(np.array([0.01, 0.02, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.99]))
    assert found == pytest.approx({"inside": 0.7, "low": 0.2, "high": 0.1})


def test_the_crps_is_the_sum_over_thresholds():
    """sum_k (F(k) - 1[x <= k])^2 of a Poisson, by scipy; within five standard errors."""
    x, found = judged(poisson(), poisson(), draws=400)
    k = np.arange(200)
    cdf = stats.poisson.cdf(k, MEANS.numpy()[:, None])  # (G, K)
    expected = ((cdf - (x.numpy()[..., None] <= k)) ** 2).sum((1, 2))
    gap = found.crps.numpy() - expected
    assert abs(gap.mean()) < 5 * gap.std() / CELLS**0.5


def test_the_log_score_of_a_fixed_prediction_is_its_log_probability():
    x, found = judged(nb(), nb(), draws=3)
    assert torch.allclose(found.log_score, nb().log_prob(x).double(), rtol=1e-5)


def test_the_log_score_of_a_mixture_is_taken_gene_by_gene():
    """Means move together by a factor of 1 or 3, at random for each draw."""
    torch.manual_seed(1)
    batch = {"x": nb().sample()}
    both = iter([MEANS, 3 * MEANS] * 50)

    def predict(seen, asked):
        return dist.Poisson(next(both).expand(CELLS, -1)).to_event(1)

    found = predictions(predict, [(batch, batch)], draws=100)
    x = batch["x"].numpy()
    each = [stats.poisson.pmf(x, factor * MEANS.numpy()) for factor in (1, 3)]
    assert np.allclose(found.log_score, np.log(np.mean(each, 0)).sum(-1), rtol=1e-4)


def test_a_sharper_prediction_scores_better_though_both_are_calibrated():
    """Means that differ between two kinds of cells, known or mixed over."""
    torch.manual_seed(2)
    kind = torch.arange(CELLS)[:, None] % 2
    rates = MEANS * (1 + 2 * kind)
    batch = {"x": torch.poisson(rates)}

    def mixed(seen, asked):
        return dist.Poisson(MEANS * (1 + 2 * torch.randint(2, (CELLS, GENES)))).to_event(1)

    pairs = [(batch, batch)]
    sharp = predictions(lambda seen, asked: dist.Poisson(rates).to_event(1), pairs)
    blunt = predictions(mixed, pairs)
    for found in (sharp, blunt):
        assert passes(by_bin(found.pit.numpy(), batch["x"].numpy())).all()
    assert (sharp.crps < blunt.crps).float().mean() > 0.9
    assert (sharp.log_score > blunt.log_score).float().mean() > 0.9


def test_one_draw_is_refused():
    with pytest.raises(ValueError, match="Take at least 2"):
        judged(nb(), nb(), draws=1)


def test_shares_by_cell_average_to_those_of_the_bins():
    rng = np.random.default_rng(0)
    pit, x = rng.random((200, GENES)), rng.poisson(MEANS.numpy(), (200, GENES))
    types = np.repeat(["a", "b"], 100)
    rows = by_bin(pit, x, types)
    among = bins({kind: x[types == kind].mean(0) for kind in ("a", "b")})
    found = shares_by_cell(pit, types, among)
    assert np.isnan(found[types == "a"][:, 3 * len(among) - 1]).all()
    means = np.nanmean(found, 0).reshape(-1, 3)
    assert np.allclose(means, rows[["inside", "low", "high"]])
