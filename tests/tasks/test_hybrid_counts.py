"""The hybrid of counts: what it draws about a prediction, and how it is judged."""

import math

import numpy as np
import pytest
import torch

from pgm_expr.evaluation.bounds.baselines import fit_baseline
from pgm_expr.evaluation.counts.pit import by_bin, passes, predictions
from pgm_expr.inference import Plan
from pgm_expr.simulate import simulate
from pgm_expr.tasks import GENERATORS
from pgm_expr.tasks.hybrid import fit_counts

QUICK = Plan(epochs=3)


def cells(number, genes, seed=0, **sizes):
    """Counts, one-hot types, type codes of simulated cells."""
    truth = simulate(number, genes, seed=seed, types=3, latent=2, **sizes)
    code = torch.from_numpy(truth.type)
    return torch.from_numpy(truth.x).float(), torch.eye(3)[code], code


@pytest.fixture(scope="module")
def quick():
    x, c, _ = cells(300, 40)
    return fit_counts(c, x, plan=QUICK, steps=20, latent=3), x, c


def asked(hybrid, x, c):
    library = x.sum(-1, keepdim=True)
    return {"x": x, "library": library, "condition": c, "offset": hybrid.offset(c)}


def test_draws_are_counts_and_seeded(quick):
    hybrid, x, c = quick
    library = x.sum(-1, keepdim=True)
    drawn = hybrid.sample(c[:50], library[:50], 4, seed=1)
    assert drawn.shape == (4, 50, 40)
    assert (drawn >= 0).all() and torch.equal(drawn, drawn.round())
    assert torch.equal(drawn, hybrid.sample(c[:50], library[:50], 4, seed=1))
    assert torch.allclose(hybrid.counts(asked(hybrid, x, c)).base_dist.mean.sum(-1), library[:, 0])


def test_the_prediction_is_the_composition_of_the_type(quick):
    """Ridge on indicators is the mean of shares, shrunk by a cell."""
    hybrid, x, c = quick
    library = x.sum(-1, keepdim=True)
    expected = (hybrid.predict(torch.eye(3), torch.ones(3, 1))).numpy()
    assert np.allclose(expected.sum(-1), 1, atol=1e-5)
    for k in range(3):
        share = (x / library)[c[:, k] == 1].mean(0).numpy()
        assert np.allclose(expected[k], share, rtol=0.1, atol=2e-3)


def test_no_share_is_predicted_to_be_none():
    """A gene that one type lacks keeps nearly a tenth of its pooled share there."""
    x, c, code = cells(300, 20)
    x[code == 0, 0], x[code > 0, 0] = 0.0, 30.0
    hybrid = fit_counts(c, x, plan=QUICK, generator=None)
    ratio = hybrid.offset(c)[code == 0, 0].exp()
    assert torch.allclose(ratio, torch.full_like(ratio, 0.1), rtol=0.25)


def test_the_joint_score_is_right_where_the_decoder_says_nothing(quick):
    """With a decoder of 0, log p(x | c) is that of a negative binomial about the prediction."""
    x, c, _ = cells(300, 40)
    for generator in (None, GENERATORS["flow"]):
        hybrid = fit_counts(c, x, plan=QUICK, steps=60, latent=2, generator=generator)
        torch.nn.init.zeros_(hybrid.model.decode.weight)
        batch = asked(hybrid, x[:60], c[:60])
        exact = hybrid.counts(batch).log_prob(batch["x"]).double()
        found = hybrid.log_score(batch, draws=60)
        assert (found - exact).mean().item() == pytest.approx(0, abs=0.2)


def test_offsets_of_the_fit_are_out_of_fold():
    """On counts that c does not tell anything of, 60 random columns do not help: in-sample they
    would seem to (.8 of the variance left), and new cells' offsets are no better than none."""
    x, *_ = cells(300, 30)
    c = torch.randn(300, 60, generator=torch.Generator().manual_seed(0))
    hybrid = fit_counts(c, x, plan=QUICK, generator=None)
    residuals = hybrid.predictor.residuals.square().mean(0)
    shares = (x / x.sum(-1, keepdim=True)).var(0)
    assert (residuals / shares).mean() > 1.1


@pytest.mark.slow
def test_simulated_counts_are_predicted_with_the_right_spread():
    """Randomised PIT within bins of types. Gene by gene the truth is close to a negative binomial
    a type, and CRPS no worse; of all genes together the score is better by far."""
    x, c, code = cells(3000, 200)
    fit, held = slice(0, 2200), slice(2200, None)
    hybrid = fit_counts(c[fit], x[fit], latent=5)
    batch = asked(hybrid, x[held], c[held])
    found = predictions(lambda _, each: hybrid.counts(each), [(batch, batch)], draws=99)
    assert passes(by_bin(found.pit.numpy(), x[held].numpy(), code[held].numpy())).all()
    baseline = fit_baseline(x[fit], code[fit], 3).predict(batch["library"], code[held])
    rival = predictions(lambda *_: baseline, [(batch, batch)], draws=99)
    joint = hybrid.log_score(batch, draws=200) - baseline.log_prob(batch["x"]).double()
    for gain, least in ((rival.crps - found.crps, -2), (joint, 10)):
        assert gain.mean() > least * gain.std() / math.sqrt(len(gain))
