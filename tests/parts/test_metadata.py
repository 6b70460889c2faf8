"""What is known of a cell as features, and the priors that follow from it."""

import math

import pytest
import torch
from scipy import stats
from scipy.special import logsumexp
from torch.nn.functional import softplus

from pgm_expr.parts import ConditionalMixture, KindsOfNormals, Metadata, NormalByEffects

CELLS, BATCHES, CONDITIONS, LATENT = 6, 2, 3, 4
NAN = torch.nan


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def cells(n=CELLS):
    return torch.randn(n, CONDITIONS), torch.arange(n) % BATCHES


def scattered(part, width=0.5):
    for parameter in part.parameters():
        parameter.data += width * torch.randn_like(parameter)
    return part


def test_columns_are_batch_covariates_and_not_told():
    condition, batch = cells()
    rows = Metadata(CONDITIONS, BATCHES)(condition, batch)
    assert rows.shape == (CELLS, BATCHES + CONDITIONS + 1)
    assert torch.equal(rows[:, :BATCHES], torch.eye(BATCHES)[batch])
    assert torch.equal(rows[:, BATCHES:-1], condition)
    assert not rows[:, -1].any()


@pytest.mark.parametrize(
    "sizes", [(CONDITIONS, 0), (0, BATCHES), (CONDITIONS, BATCHES)], ids=["c", "b", "both"]
)
def test_of_a_cell_of_which_nothing_is_told_one_column_says_so(sizes):
    part, (condition, batch) = Metadata(*sizes), cells()
    condition[2], batch[2] = NAN, -1
    rows = part(condition if sizes[0] else None, batch if sizes[1] else None)
    assert rows.shape == (CELLS, part.features)
    assert rows[2].tolist() == [0.0] * (part.features - 1) + [1.0]
    assert not rows[[0, 1, 3, 4, 5], -1].any()


def test_what_is_missing_is_not_what_is_not_told():
    """A NaN among values, a batch of -1 beside a covariate: 0 in its columns, the rest stays."""
    condition, batch = cells()
    plain = Metadata(CONDITIONS, BATCHES)(condition, batch)
    condition[0, 1], condition[1], batch[2] = NAN, NAN, -1
    rows = Metadata(CONDITIONS, BATCHES)(condition, batch)
    assert not rows[:, -1].any()
    expected = plain.clone()
    expected[0, BATCHES + 1] = expected[1, BATCHES:] = expected[2, :BATCHES] = 0
    assert torch.equal(rows, expected)


def test_an_encoded_missing_value_is_told():
    """Covariates that say themselves that they are missing, as the encoding writes them."""
    missing = torch.tensor([[0.0, 0.0, 1.0]])
    rows = Metadata(CONDITIONS, 0, condition_dropout=0.5).eval()(missing)
    assert rows.tolist() == [[0.0, 0.0, 1.0, 0.0]]


def test_in_training_a_share_of_cells_is_not_told_and_looks_so():
    part, (condition, batch) = Metadata(CONDITIONS, BATCHES, condition_dropout=0.3), cells(4000)
    rows = part(condition, batch)
    silent = rows[:, -1] == 1
    assert abs(silent.float().mean() - 0.3) < 4 * (0.3 * 0.7 / 4000) ** 0.5  # 1 seed in 16,000
    token = part.eval()(torch.full((1, CONDITIONS), NAN), torch.tensor([-1]))
    assert torch.equal(rows[silent], token.expand(int(silent.sum()), -1))
    assert torch.equal(rows[~silent], part(condition, batch)[~silent])
    assert not part(condition, batch)[:, -1].any()  # none once trained


def test_the_token_is_no_level():
    """Linearly independent of every level: a network can set it apart from all of them."""
    part = Metadata(2, BATCHES)
    levels = torch.cartesian_prod(torch.arange(2), torch.arange(BATCHES))
    rows = part(torch.eye(2)[levels[:, 0]], levels[:, 1])
    token = part(torch.full((1, 2), NAN), torch.tensor([-1]))
    rank = torch.linalg.matrix_rank
    assert rank(torch.cat([rows, token])) == rank(rows) + 1


def test_without_metadata_it_says_what_to_name():
    with pytest.raises(ValueError, match="batch_key, categorical_covariate_keys"):
        Metadata()


def test_scales_are_bounded_whatever_is_told():
    part = scattered(NormalByEffects(3, LATENT), 1000.0)
    for far in (-1e3, 1e3):
        log_scale = part(far * torch.eye(3)).stddev.log()
        assert log_scale.isfinite().all()
        assert log_scale.abs().max() <= math.log(50) + 1e-5
        assert log_scale.abs().max() > 3  # the bound is reached


def test_effects_add_up_on_locs_and_on_log_scales(float64):
    """An unseen combination of levels is the sum of theirs."""
    part, c = scattered(NormalByEffects(3, LATENT), 0.1), torch.eye(3)
    part.log_scale_effect.data.zero_()
    origin, both = part(torch.zeros(1, 3)), part(c[:1] + c[1:2])
    for moment in (lambda d: d.mean, lambda d: 2 * torch.atanh(d.stddev.log() / math.log(50))):
        first, second = moment(part(c[:1])), moment(part(c[1:2]))
        assert torch.allclose(moment(both), first + second - moment(origin))


def test_a_conditional_mixture_starts_with_even_weights():
    """Whatever is told of a cell: within a fifth of 1 / M of each."""
    c = Metadata(CONDITIONS, BATCHES)(*cells()).clamp(-1, 1)
    weights = ConditionalMixture(c.shape[1], LATENT, modes=5)(c).mixture_distribution.probs
    assert weights.shape == (len(c), 5) and (weights - 0.2).abs().max() < 0.04


def test_conditions_weigh_the_same_modes_and_their_effects_add_up(float64):
    """Log odds of two modes under both levels are the sum of those under each."""
    part, c = scattered(ConditionalMixture(3, LATENT, modes=5), 0.5), torch.eye(3)
    origin, both, first, second = (
        part(told).mixture_distribution.logits.diff()
        for told in (torch.zeros(1, 3), c[:1] + c[1:2], c[:1], c[1:2])
    )
    assert torch.allclose(both, first + second - origin) and not torch.allclose(first, second)
    components = part(c).component_distribution
    assert torch.equal(components.mean, part.loc.expand(3, -1, -1))


def test_the_density_of_a_conditional_mixture_is_the_weighed_sum(float64):
    part, c = scattered(ConditionalMixture(3, LATENT, modes=5), 0.5), torch.randn(7, 3)
    z = 2 * torch.randn(7, LATENT)
    linear = part.logits
    logits = c.numpy() @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
    scale = (softplus(part.raw_scale) + 1e-3).detach().numpy()
    each = stats.norm(part.loc.detach().numpy(), scale).logpdf(z.numpy()[:, None]).sum(-1)
    weights = logits - logsumexp(logits, axis=-1, keepdims=True)
    assert torch.allclose(part(c).log_prob(z), torch.as_tensor(logsumexp(each + weights, axis=-1)))


def test_kinds_weigh_the_same_modes(float64):
    part = scattered(KindsOfNormals(3, LATENT, modes=5))
    z, y = 2 * torch.randn(40, LATENT), torch.arange(40) % 3
    loc, logits = part.loc.detach().numpy(), part.logits.detach().numpy()[y.numpy()]  # (40, M)
    scale = (softplus(part.raw_scale) + 1e-3).detach().numpy()
    each = stats.norm(loc, scale).logpdf(z.numpy()[:, None]).sum(-1)
    weights = logits - logsumexp(logits, axis=-1, keepdims=True)
    expected = torch.as_tensor(logsumexp(each + weights, axis=-1))
    assert torch.allclose(part(y).log_prob(z), expected)
    enumerated = part(torch.arange(3).view(3, 1, 1)).log_prob(z)  # as the objectives call it
    assert enumerated.shape == (3, 1, 40)
    assert torch.allclose(enumerated[y, 0, torch.arange(40)], expected)
