"""Steps back by Bayes' rule, and a toy pmf learnt back."""

import pytest
import torch
from torch.nn.functional import one_hot

from pgm_expr.diffusion import Absorbing, DiscreteDiffusion, Ordinal

LEVELS = 6
KERNELS = [Absorbing, Ordinal]


@pytest.mark.parametrize("kernel", KERNELS)
def test_posterior_is_bayes_rule_by_brute_force(kernel, float64):
    """Every x_{t-1} of every x_t that x_0 can become, by products of one-step matrices."""
    model, chain = DiscreteDiffusion(1, 4, kernel=kernel, times=7), kernel(4, 7)
    before = torch.eye(chain.states)
    for t in torch.arange(1, 8):
        for x0 in range(4):
            joint = before[x0][:, None] * chain.step(t)  # x_{t-1}, x_t
            known = one_hot(torch.tensor([[x0]]), 4).double().clamp_min(1e-300).log()
            for x in (joint.sum(0) > 1e-9).nonzero().flatten():
                found = model.back(x.view(1, 1), t, known).exp()[0, 0]
                torch.testing.assert_close(found, joint[:, x] / joint[:, x].sum())
        before = before @ chain.step(t)


i = torch.arange(LEVELS)
PMF = (-((i[:, None] - i) ** 2) / 1.5 - (i[:, None] - 1.5) ** 2 / 6).exp()  # two genes covary
PMF[0, 0] *= 4
PMF /= PMF.sum()


def toy(n=2048):
    cells = PMF.flatten().multinomial(n, replacement=True)
    return torch.stack([cells // LEVELS, cells % LEVELS], 1)


@torch.no_grad()
def pmf(model, c=None):
    """What a model of two genes gives, exactly: every pair of states, followed to t = 0."""
    states = torch.arange(len(model.end))
    x = torch.cartesian_prod(states, states)
    told = None if c is None else c.expand(len(x), -1)
    p = torch.outer(model.end, model.end).flatten().double()
    for t in torch.arange(model.times, 0, -1):
        step = model.back(x, t, model.guess(x, t, told)).double().exp()
        p = torch.einsum("n,ni,nj->ij", p, step[:, 0], step[:, 1]).flatten()
    return p.view(len(states), -1)


def distance(p, q):
    return (p - q).abs().sum().item() / 2


class Known(DiscreteDiffusion):
    """Guesses by Bayes' rule what the other gene of `toy` says."""

    def guess(self, x, t, c=None, drop=None):
        likely = self.upto[t.reshape(-1, 1), :, x.flip(1)][..., :LEVELS]  # (N, G, K): the other's
        joint = torch.stack([PMF, PMF.T]).to(likely)  # own, other
        told = torch.einsum("gko,ngo->ngk", joint, likely)
        return told.clamp_min(1e-30).log().log_softmax(-1)


@pytest.mark.parametrize("kernel, within", [(Absorbing, 6e-3), (Ordinal, 8e-3)])
def test_exact_guesses_give_the_pmf(kernel, within):
    """As an exact score does: what is left is that genes step at once, and falls as 1 / T."""
    errors = []
    for times in (25, 100):
        found = pmf(Known(2, LEVELS, kernel=kernel, times=times))
        assert found.sum().item() == pytest.approx(1, abs=1e-4)
        assert found[:LEVELS, :LEVELS].sum().item() == pytest.approx(1, abs=1e-4)
        errors.append(distance(found[:LEVELS, :LEVELS], PMF))
    assert errors[1] < within and errors[0] / errors[1] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("kernel", KERNELS)
def test_untrained_genes_keep_their_frequencies_and_are_independent(kernel):
    """Exactly, at any number of steps: a network that says nothing leaves Bayes' rule."""
    made = DiscreteDiffusion(2, LEVELS, kernel=kernel, times=9)
    one, two = PMF.sum(1), PMF.sum(0)
    made.frequency.copy_(torch.stack([one, two]).log())
    found = pmf(made)[:LEVELS, :LEVELS].float()
    torch.testing.assert_close(found, torch.outer(one, two), rtol=0, atol=1e-3)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_loss_is_the_bound_at_one_step_of_it(kernel):
    torch.manual_seed(0)
    made, x = Known(2, LEVELS, kernel=kernel, times=10, entropy=0.0), toy(40_000)
    losses, bound = made.loss(x), made.bound(x[:4000])
    error = (losses.var() / len(losses) + bound.var() / len(bound)).sqrt()
    assert abs(losses.mean() + bound.mean()) < 4 * error + 0.01  # KL(q(x_T | x_0) | end) apart


def test_cross_entropy_is_of_the_count_given_all_that_is_seen():
    """A count not yet masked is known, whatever a network guesses of it."""
    torch.manual_seed(0)
    made = DiscreteDiffusion(2, LEVELS, times=20_000)
    _, early = made.terms(toy(50), torch.ones(50, dtype=torch.long))
    _, late = made.terms(toy(50), torch.full((50,), 20_000))
    assert early.max() < 1e-6
    torch.testing.assert_close(late, 2 * torch.tensor(float(LEVELS)).log().expand(50))


@pytest.fixture(scope="module", params=KERNELS, ids=["absorbing", "ordinal"])
def learnt(request):
    torch.manual_seed(0)
    made = DiscreteDiffusion(2, LEVELS, kernel=request.param, hidden=32, layers=1)
    [*made.fit(toy, steps=400, batch_size=2048, learning_rate=1e-2)]
    return made


def test_a_toy_pmf_is_recovered(learnt):
    """Where independent genes of the same frequencies are .48 away."""
    assert distance(torch.outer(PMF.sum(1), PMF.sum(0)), PMF) > 0.4
    assert distance(pmf(learnt)[:LEVELS, :LEVELS], PMF) < 0.02


def test_draws_are_of_the_models_pmf(learnt):
    torch.manual_seed(0)
    x = learnt.sample(4000)
    assert x.dtype == torch.long and x.min() == 0 and x.max() == LEVELS - 1
    found = one_hot(x[:, 0] * LEVELS + x[:, 1], LEVELS**2).double().mean(0)
    truth = pmf(learnt)[:LEVELS, :LEVELS].flatten()
    assert distance(found, truth) < 0.045  # .025 expected of 4,000 exact draws


def test_the_bound_is_below_log_p_and_near(learnt):
    torch.manual_seed(0)
    x = toy(2048)
    truth = pmf(learnt)[x[:, 0], x[:, 1]].log().mean()
    gap = truth - learnt.bound(x).mean()
    assert -0.01 < gap < 0.06 and truth - PMF[x[:, 0], x[:, 1]].log().mean() < 0.01


def test_saved_weights_give_the_same_cells(learnt):
    kernel = Absorbing if len(learnt.end) > LEVELS else Ordinal
    copy = DiscreteDiffusion(2, LEVELS, kernel=kernel, hidden=32, layers=1)
    copy.load_state_dict(learnt.state_dict())
    found = []
    for made in (learnt, copy):
        torch.manual_seed(0)
        found.append(made.sample(20))
    assert torch.equal(*found)


def small(kernel=Absorbing, levels=4, counts=None, **options):
    torch.manual_seed(0)
    made = DiscreteDiffusion(3, levels, 2, kernel=kernel, times=10, hidden=8)
    fixed = (
        torch.tensor([[0, 2, 1], [9, 1, 1], [3, 0, 1], [1, 2, 1]]) if counts is None else counts
    )
    losses = [*made.fit(lambda: fixed, torch.eye(2).repeat(2, 1), steps=5, **options)]
    return made, losses


def test_counts_above_the_top_come_back_as_the_top():
    made, _ = small()
    assert made.classes(torch.tensor([[0, 3, 400]])).tolist() == [[0, 3, 3]]
    assert made.sample(50).max() <= 3
    x = torch.tensor([[9, 1, 1]])
    found = []
    for each in (x, x.clamp_max(3)):
        torch.manual_seed(0)
        found.append(made.bound(each, torch.ones(1, 2)))
    assert torch.equal(*found) and found[0] < 0


@pytest.mark.parametrize("counts", [[[0.5, 1, 2]], [[-1, 1, 2]]])
def test_what_is_not_counts_is_refused(counts):
    with pytest.raises(ValueError, match="raw counts"):
        small()[0].classes(torch.tensor(counts))


def test_it_begins_with_each_genes_frequencies():
    """Half a count of each level is added, so that what was not seen is not impossible."""
    made, _ = small()
    truth = torch.tensor([1.5, 1.5, 0.5, 2.5]) / 6
    torch.testing.assert_close(made.frequency[0].exp(), truth)


@pytest.mark.parametrize("kernel", KERNELS)
def test_learning_is_seeded_and_reaches_every_weight(kernel):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    learning = DiscreteDiffusion(3, 4, kernel=kernel, hidden=8).fit(
        lambda: torch.randint(0, 4, (20, 3)), steps=2
    )
    made_state = torch.get_rng_state()
    assert [*learning] and torch.equal(torch.get_rng_state(), made_state)
    assert not torch.equal(state, made_state)
    assert small(kernel)[1] == small(kernel)[1] != small(kernel, seed=1)[1]
    made, _ = small(kernel)
    made.zero_grad()
    made.dropout = 0.5
    made.loss(torch.randint(0, 4, (64, 3)), torch.randn(64, 2)).mean().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name


def test_conditions_and_guidance_tell():
    """Gene 0 is 0 under one condition and 3 under the other."""
    x = torch.tensor([[0, 1, 1], [3, 1, 1]]).repeat(64, 1)
    c = torch.eye(2).repeat(64, 1)
    torch.manual_seed(0)
    made = DiscreteDiffusion(3, 4, 2, times=10, hidden=16, layers=1)
    [*made.fit(lambda: x, c, steps=150, learning_rate=1e-2)]
    found = made.sample(128, c)
    assert (found[:, 0] == x[:, 0]).float().mean() > 0.95
    mixed = made.sample(128, c, guidance=0.0)
    assert 0.3 < (mixed[:, 0] == x[:, 0]).float().mean() < 0.7
    assert (made.sample(128, c, guidance=2.0)[:, 0] == x[:, 0]).float().mean() > 0.95


def test_double_precision_works():
    made = small()[0].double()
    c = torch.eye(2).double()
    assert made.bound(torch.tensor([[0, 1, 2]] * 2), c).dtype == torch.float64
    assert made.sample(2, c).dtype == torch.long
