"""Held-out bounds against the exact evidence of probabilistic PCA."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pgm_expr.evaluation import elbo, iwae, standard_error
from pgm_expr.evaluation.bounds import held_out as heldout
from pgm_expr.inference import IWAE, Trace
from pgm_expr.predict import withheld

REPEATS = 50
MOST = heldout.ENTRIES // (40 * 6)  # draws of the 40 cells and 6 genes of `ppca` held at a time


@pytest.fixture
def wide(ppca):
    """The PPCA with a guide too wide, and a batch that holds each of its cells 50 times."""
    ppca.guide.match(ppca.model, width=1.4)
    ppca.batch = {key: value.repeat(REPEATS, 1) for key, value in ppca.batch.items()}
    ppca.evidence = ppca.model.evidence(ppca.batch["x"])
    return ppca


def z_score(values):
    """Mean in standard errors, values independent."""
    return (values.mean() / values.std() * len(values) ** 0.5).item()


def test_with_the_exact_posterior_every_draw_is_the_evidence(ppca, stories):
    """Whatever the chunks: one draw is as good as more than are held at a time."""
    guide, many = stories.ExactGuide(ppca.model), 2 * MOST
    bounds = iwae(ppca.model, guide, [ppca.batch], (1, 5, many))
    assert list(bounds) == [1, 5, many]
    for bound in bounds.values():
        assert torch.allclose(bound, ppca.model.evidence(ppca.x), rtol=1e-10)
    bound = elbo(ppca.model, guide, [ppca.batch], Trace)
    assert torch.allclose(bound, ppca.model.evidence(ppca.x), rtol=1e-10)


# 2,000 cells; 4 standard errors of paired differences: each fails for 1 seed in 30,000.
def test_iwae_rises_to_the_evidence(wide):
    bounds = iwae(wide.model, wide.guide, [wide.batch], (1, 6, 36))
    for low, high in ((1, 6), (6, 36)):
        assert z_score(bounds[high] - bounds[low]) > 4
    assert z_score(bounds[36] - wide.evidence) < 4


def test_iwae_with_many_draws_is_the_evidence(wide):
    """The gap at K is var(w) / 2K to first order: plain at 20, gone at 2,000."""
    batch = {key: value[:400] for key, value in wide.batch.items()}
    bounds = iwae(wide.model, wide.guide, [batch], (20, 2000))
    gap = {k: (wide.evidence[:400] - bound).mean() for k, bound in bounds.items()}
    assert gap[20] > 0.008 and gap[2000].abs() < 0.002


def test_log_mean_is_over_draws_not_cells(ppca):
    """Against the same weights, averaged by hand."""
    torch.manual_seed(heldout.SEED)
    weights = IWAE(ppca.model, ppca.guide, cells=1, particles=9).log_weights(**ppca.batch)
    bound = iwae(ppca.model, ppca.guide, [ppca.batch], (9,))[9]
    assert torch.allclose(bound, weights.exp().mean(0).log(), rtol=1e-10)


def test_smaller_k_are_the_first_draws_of_the_larger(ppca):
    def bound(*draws):
        return iwae(ppca.model, ppca.guide, [ppca.batch], draws)

    assert torch.equal(bound(500, 2000)[500], bound(500)[500])
    assert torch.equal(bound(2000, 500)[500], bound(500)[500])
    assert not torch.equal(bound(2000)[2000], bound(500)[500])


class Watched(nn.Module):
    """A guide that notes how many draws of each cell it is asked for at a time."""

    def __init__(self, guide):
        super().__init__()
        self.guide, self.sizes = guide, []

    def forward(self, library, x=None):
        with pyro.plate("cells", len(library)):
            q = dist.Normal(self.guide.loc(x), self.guide.log_scale.exp()).to_event(1)
            self.sizes.append(len(pyro.sample("z", q)))


def test_chunks_bound_the_memory_and_miss_no_draw(ppca):
    """Chunks end at each K, are no larger than may be held, and add up to the largest K."""
    first, last = MOST + 5, 3 * MOST
    guide = Watched(ppca.guide)
    iwae(ppca.model, guide, [ppca.batch], (first, last))
    assert guide.sizes == [MOST, 5, MOST, MOST - 5]


def test_chunks_do_not_change_the_answer(wide):
    """Minibatches whose draws are held together, or not: 4 standard errors of the difference."""
    halves = [{k: v[at] for k, v in wide.batch.items()} for at in (slice(1000), slice(1000, 2000))]
    draws = heldout.ENTRIES // halves[0]["x"].numel()
    whole = iwae(wide.model, wide.guide, halves, (draws,))[draws]
    chunked = iwae(wide.model, wide.guide, [wide.batch], (draws,))[draws]
    gap = whole - chunked
    assert abs(gap.mean()) < 4 * gap.std() / len(gap) ** 0.5 + 1e-9


def closed_form(model, guide, x):
    """E_q[log p(x | z)] - KL(q || p) of a linear Gaussian pair, in numpy."""
    w, mu, sigma = (t.detach().numpy() for t in (model.loadings, model.mu, model.log_sigma.exp()))
    m, s = guide.loc(x).detach().numpy(), guide.log_scale.exp().detach().numpy()
    error = ((x.numpy() - m @ w.T - mu) ** 2).sum(1) + ((w * s) ** 2).sum()
    fit = -len(mu) / 2 * np.log(2 * np.pi * sigma**2) - error / (2 * sigma**2)
    return fit - 0.5 * (m**2 + s**2 - 1 - 2 * np.log(s)).sum(1)


@pytest.mark.parametrize("options", [(), (Trace,)], ids=["mean-field", "trace"])
def test_elbo_is_the_closed_form(wide, options):
    exact = closed_form(wide.model, wide.guide, wide.batch["x"])
    gap = elbo(wide.model, wide.guide, [wide.batch], *options).numpy() - exact
    assert abs(gap.mean()) < 4 * gap.std() / len(gap) ** 0.5
    assert (exact < wide.evidence.numpy()).all()


def at_seed(monkeypatch, seed, measure):
    monkeypatch.setattr(heldout, "SEED", seed)
    return measure()


def test_two_runs_of_the_precise_elbo_agree(ppca, monkeypatch):
    """To 0.05 nat, and around the closed form as the Monte Carlo standard error says."""
    ppca.guide.match(ppca.model, width=1.4)
    exact = closed_form(ppca.model, ppca.guide, ppca.x).mean()

    def measure():
        return heldout.precise_elbo(ppca.model, ppca.guide, lambda: [ppca.batch], Trace)

    runs = [at_seed(monkeypatch, seed, measure) for seed in range(15)]
    means = np.array([run.value.mean().item() for run in runs])
    errors = np.array([run.mcse for run in runs])
    assert errors.max() < 1.3 * heldout.PRECISION and np.ptp(means[:2]) < 0.05
    z = (means - exact) / errors
    assert abs(z.mean()) < 4 / 15**0.5 and 0.4 < z.std() < 1.8
    once = [
        at_seed(monkeypatch, s, lambda: elbo(ppca.model, ppca.guide, [ppca.batch], Trace))
        for s in range(15)
    ]
    assert np.std([each.mean().item() for each in once]) > 3 * means.std()


def test_a_bound_without_noise_takes_few_draws(ppca, stories):
    guide = stories.ExactGuide(ppca.model)
    found = heldout.precise_elbo(ppca.model, guide, lambda: [ppca.batch], Trace)
    assert torch.allclose(found.value, ppca.model.evidence(ppca.x), rtol=1e-10)
    assert found.mcse < 1e-6


def test_the_error_of_iwae_is_that_over_seeds(ppca, monkeypatch):
    ppca.guide.match(ppca.model, width=1.4)
    runs = [
        at_seed(
            monkeypatch,
            seed,
            lambda: heldout.iwae_bounds(ppca.model, ppca.guide, [ppca.batch], (20, 100)),
        )
        for seed in range(40)
    ]
    for k in (20, 100):
        spread = np.std([run[k].value.mean().item() for run in runs], ddof=1)
        assert 0.65 < spread / np.mean([run[k].mcse for run in runs]) < 1.4


def test_cells_stay_in_their_order(ppca, stories):
    guide = stories.ExactGuide(ppca.model)
    parts = [{k: v[rows] for k, v in ppca.batch.items()} for rows in (slice(33), slice(33, 40))]
    bounds = [
        *iwae(ppca.model, guide, parts, (2,)).values(),
        elbo(ppca.model, guide, parts, Trace),
    ]
    for bound in bounds:
        assert torch.allclose(bound, ppca.model.evidence(ppca.x), rtol=1e-10)


def test_same_noise_for_every_run_and_none_of_the_caller(ppca):
    torch.manual_seed(3)
    state, results = torch.get_rng_state(), []
    for _ in range(2):
        results.append(elbo(ppca.model, ppca.guide, [ppca.batch], Trace))
        results.append(iwae(ppca.model, ppca.guide, [ppca.batch], (3,))[3])
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(4)
        state = torch.get_rng_state()
    assert torch.equal(results[0], results[2]) and torch.equal(results[1], results[3])


def test_dropout_is_off(pair_with_dropout):
    model, guide, batch = pair_with_dropout
    first = elbo(model.train(), guide.train(), [batch])
    assert torch.equal(first, elbo(model.eval(), guide.eval(), [batch]))
    second = iwae(model.train(), guide.train(), [batch], (4,))[4]
    assert torch.equal(second, iwae(model.eval(), guide.eval(), [batch], (4,))[4])


@pytest.fixture
def pair_with_dropout(table):
    from pgm_expr.guides import VAEGuide
    from pgm_expr.models import VAE

    torch.manual_seed(0)
    sizes = dict(genes=table.genes, latent=2, hidden=8)
    batch = table.rows(torch.arange(6))
    return VAE(**sizes, decoder_dropout=0.5), VAEGuide(**sizes, encoder_dropout=0.5), batch


def test_standard_error_of_a_mean():
    assert standard_error(torch.tensor([1.0, 2.0, 6.0])) == pytest.approx(math.sqrt(7 / 3))


def test_withheld_hides_labels_and_targets_alone():
    """And says that they are not told where a batch has no such column."""
    bare = {"x": torch.ones(2, 3), "library": torch.full((2, 1), 3.0)}
    told = bare | {"label": torch.tensor([0, 2]), "target": torch.tensor([[0.5], [math.nan]])}
    for batch in (bare, told):
        (hidden,) = withheld([batch])
        assert hidden["label"].tolist() == [-1, -1] and hidden["label"].dtype == torch.int64
        assert hidden["target"].shape == (2, 1) and hidden["target"].isnan().all()
        assert hidden["x"] is batch["x"] and hidden.keys() == told.keys()
    assert told["label"].tolist() == [0, 2]
