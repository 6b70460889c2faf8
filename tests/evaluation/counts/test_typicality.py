"""Unusual cells, whatever their depth: the null is uniform, planted ones are found."""

import numpy as np
import pytest
import torch
from scipy import stats

from pgm_expr.evaluation.counts.typicality import typicality
from pgm_expr.guides import VAEGuide
from pgm_expr.models import VAE
from pgm_expr.predict import draw_prior

GENES = 60


def built(size):
    """A VAE with effects of z of that size; its guide is untrained, which is no excuse."""
    torch.manual_seed(0)
    average = torch.rand(GENES).exp() ** 2
    model = VAE(GENES, average / average.sum(), latent=3, hidden=16)
    with torch.no_grad():
        for layer in model.decode:
            if hasattr(layer, "weight"):
                layer.weight *= size
    return model.eval(), VAEGuide(GENES, latent=3, hidden=16).eval()


@pytest.fixture(scope="module")
def story():
    return built(3.0)


def cells(model, number, seed):
    """Cells drawn from the model at libraries between 100 and 1,600; theirs are their totals."""
    torch.manual_seed(seed)
    library = torch.exp(6 + 0.7 * torch.randn(number, 1))
    x = draw_prior(model, [{"library": library}])
    return {"x": x, "library": x.sum(-1, keepdim=True)}


def model_order(model):
    """Genes from the rarest to the commonest."""
    return cells(model, 200, 9)["x"].sum(0).argsort()


@pytest.mark.parametrize("seed", [1, 2])
def test_cells_of_the_model_are_typical_at_every_depth(story, seed):
    """|Spearman| below .1 with 1,500 cells (sd .026), uniform p at the level 1e-3."""
    batch = cells(story[0], 1500, seed)
    found = typicality(*story, [batch])
    depth = batch["library"].squeeze(-1).numpy()
    assert abs(stats.spearmanr(found.score, depth).statistic) < 0.1
    assert stats.kstest(found.p, "uniform").pvalue > 1e-3
    assert abs(stats.spearmanr(found.bound, depth).statistic) > 0.4  # what raw bounds would do


def test_tail_probabilities_hold_for_shallow_and_for_deep_cells(story):
    """A twentieth is below .05, in each half by depth: within four binomial deviations."""
    batch = cells(story[0], 2000, 4)
    found = typicality(*story, [batch])
    depth = batch["library"].squeeze(-1).numpy()
    for half in (depth < np.median(depth), depth >= np.median(depth)):
        assert abs((found.p[half] < 0.05).mean() - 0.05) < 4 * (0.05 * 0.95 / 1000) ** 0.5


def test_cells_with_genes_exchanged_are_untypical():
    story = built(0.5)
    batch = cells(story[0], 300, 3)
    strange = batch["x"].clone()
    order = model_order(story[0])
    strange[:30, order] = strange[:30, order.flip(0)]  # rare genes as high as common ones
    found = typicality(*story, [{**batch, "x": strange}])
    planted = np.arange(300) < 30
    found_apart = stats.mannwhitneyu(found.score[~planted], found.score[planted])
    assert found_apart.statistic / (30 * 270) > 0.9  # AUROC
    assert np.median(found.p[planted]) < 0.05


def test_few_drawn_cells_are_refused(story):
    with pytest.raises(ValueError, match="got 5 cells x 4. Raise `replicates`"):
        typicality(*story, [cells(story[0], 5, 0)])
