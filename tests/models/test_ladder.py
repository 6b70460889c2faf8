"""The ladder's parts against algebra: levels of factor analysis, weights that keep to sets."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from pgm_expr import zoo
from pgm_expr.parts import GeneSetDecoder, GeneSetEvidence, Lift, product

GENES, LATENT = 7, 2
SETS = torch.tensor([[1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 0, 0]]).float()


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def scattered(part):
    for parameter in part.parameters():
        parameter.data += torch.randn_like(parameter)
    return part


def test_the_lower_level_is_standard_normal_again(float64):
    """Cov(y) = L L^T + diag(rest^2) has a diagonal of ones, and Cov(y, z) = L."""
    lift = scattered(Lift(LATENT, len(SETS)))
    slope = lift(torch.eye(LATENT)).mean - lift(torch.zeros(LATENT)).mean  # (D, S), y on each z
    covariance = slope.T @ slope + lift(torch.zeros(LATENT)).variance.diag()
    assert torch.allclose(covariance.diagonal(), torch.ones(len(SETS)))
    assert torch.allclose(lift.weights, slope.T)


def test_what_is_free_of_the_level_above_is_standard_normal():
    lift = scattered(Lift(LATENT, 3, free=2))(torch.randn(4, LATENT))
    assert torch.equal(lift.mean[:, 3:], torch.zeros(4, 2))
    assert torch.equal(lift.stddev[:, 3:], torch.ones(4, 2))


def test_the_product_is_the_posterior_of_an_observed_normal(float64):
    """Observing y + noise at a value: the conditional of the joint normal, by Schur."""
    lift = scattered(Lift(LATENT, 3))(torch.randn(LATENT))
    loc, scale = torch.randn(3), torch.rand(3) + 0.1
    told = type(lift.base_dist)(loc, scale).to_event(1)
    prior = lift.variance.diag()
    gain = prior @ (prior + scale.square().diag()).inverse()
    expected = lift.mean + gain @ (loc - lift.mean), prior - gain @ prior
    both = product(told, lift)
    assert torch.allclose(both.mean, expected[0])
    assert torch.allclose(both.variance.diag(), expected[1])
    value = torch.randn(3)
    joint = MultivariateNormal(*expected).log_prob(value)
    assert torch.allclose(both.log_prob(value), joint)


def test_weights_keep_to_their_set_and_are_positive_on_average():
    decode = scattered(GeneSetDecoder(SETS))
    decode.contrast.data *= 5
    assert not decode.weights[SETS == 0].any()
    assert (decode.weights.sum(-1) > 0).all() and (decode.weights[SETS > 0] < 0).any()


def test_a_pathway_moves_no_gene_outside_its_set():
    decode = scattered(GeneSetDecoder(SETS))
    moved = decode(torch.eye(len(SETS))) != decode(torch.zeros(len(SETS)))
    assert torch.equal(moved, SETS > 0)


def test_unannotated_pathways_have_the_genes_of_no_set():
    decode = scattered(GeneSetDecoder(SETS, unannotated=2))
    assert decode.weights.shape == (5, GENES)
    assert torch.equal(decode.weights[3:] != 0, (SETS.sum(0) == 0).expand(2, -1))
    assert GeneSetDecoder(SETS[:, :5], unannotated=2).weights.shape == (3, 5)


def test_evidence_starts_as_the_mean_of_the_sets_own_genes():
    evidence = GeneSetEvidence(4, SETS)
    h, x = torch.randn(6, 4), torch.rand(6, GENES)
    base = evidence(h, torch.zeros(6, GENES)).mean
    means = torch.stack([x[:, row > 0].mean(-1) for row in SETS], -1)
    assert torch.allclose(evidence(h, x).mean - base, means, atol=1e-6)


def test_where_counts_say_little_the_pathways_follow_their_programs():
    dims = {"genes": GENES, "gene_sets": SETS}
    model, guide = zoo.build(zoo.story("ladder"), dims, latent=LATENT, hidden=8)
    scattered(model.lift)
    z = torch.randn(4, LATENT)
    guide.evidence.raw_scale.bias.data += 1e4
    x = torch.ones(4, GENES)
    q = product(guide.evidence(guide.encode(x.log1p()), x.log1p()), model.lift(z))
    assert torch.allclose(q.mean, model.lift(z).mean, atol=1e-4)
    assert torch.allclose(q.stddev, model.lift(z).stddev.expand(4, -1), atol=1e-4)


def test_loadings_and_programs_have_a_row_each():
    dims = {"genes": GENES, "gene_sets": SETS}
    model, _ = zoo.build(zoo.story("ladder"), dims, latent=LATENT, unannotated=1)
    assert model.loadings.shape == (4, GENES) and model.programs.shape == (LATENT, 4)


def test_without_gene_sets_it_says_what_is_missing():
    with pytest.raises(ValueError, match="Ladder requires `gene_sets`; pass gene_sets to fit"):
        zoo.build(zoo.story("ladder"), {"genes": GENES})
