"""The gate on a collapsed latent space fires when it must, and only then."""

import numpy as np
import pytest
import torch

from pgm_expr.guides import VAEGuide
from pgm_expr.inference import LatentUse, MeanField, Trace, latent_use
from pgm_expr.models import VAE


def use_of(ppca, kind=MeanField, **options):
    return latent_use(kind(ppca.model, ppca.guide, cells=40, **options), [ppca.batch])


def moments(ppca):
    guide = ppca.guide
    return guide.loc(ppca.x).detach().numpy(), guide.log_scale.exp().detach().numpy()


def collapse(ppca):
    with torch.no_grad():
        for parameter in ppca.guide.parameters():
            parameter.zero_()  # q = p = Normal(0, 1)


def test_a_healthy_guide_passes(ppca):
    use = use_of(ppca)
    assert use.verdict() is None and use.active_units == 3 and use.kl.sum() > 2


def test_a_collapsed_guide_is_told(ppca):
    collapse(ppca)
    use = use_of(ppca)
    assert torch.allclose(use.kl, torch.zeros(3)) and use.active_units == 0
    assert "posterior collapse: KL is 0.00 nats" in use.verdict()
    assert "0 of 3" in use.verdict() and "\n" not in use.verdict()


def test_a_guide_that_says_the_same_of_all_cells_is_told(ppca):
    """Much KL, and nothing about any cell in it."""
    collapse(ppca)
    ppca.guide.loc.bias.data.fill_(5.0)
    use = use_of(ppca)
    assert use.kl.sum() == pytest.approx(3 * 12.5) and "0 of 3" in use.verdict()


def test_kl_is_the_closed_form(ppca):
    m, s = moments(ppca)
    exact = 0.5 * (m**2 + s**2 - 1 - 2 * np.log(s))
    assert np.allclose(use_of(ppca).kl.numpy(), exact.mean(0), rtol=1e-10)
    assert np.allclose(use_of(ppca).loc.numpy(), m, rtol=1e-12)


# One draw of q a particle: 4 standard errors of a mean over 40 x 500.
def test_without_a_closed_form_the_kl_is_drawn(ppca):
    m, s = moments(ppca)
    exact = 0.5 * (m**2 + s**2 - 1 - 2 * np.log(s)).sum(1)
    torch.manual_seed(0)
    use = use_of(ppca, Trace, particles=500)
    spread = np.sqrt(((1 - s**2) ** 2 / 2 + (m * s) ** 2).sum(1))  # sd of log q - log p
    error = np.sqrt((spread**2).mean() / (40 * 500))
    assert use.kl.shape == (1,) and abs(use.kl.item() - exact.mean()) < 4 * error
    assert np.allclose(use.loc.numpy(), m, rtol=1e-12)


def test_batches_count_by_their_cells(ppca):
    objective = MeanField(ppca.model, ppca.guide, cells=40)
    parts = [{k: v[rows] for k, v in ppca.batch.items()} for rows in (slice(33), slice(33, 40))]
    whole, split = latent_use(objective, [ppca.batch]), latent_use(objective, parts)
    assert torch.allclose(whole.kl, split.kl) and torch.allclose(whole.loc, split.loc)


def test_active_units_are_those_whose_mean_varies(float64):
    """Burda's threshold, .01, on the variance over cells with divisor n - 1."""
    at = torch.tensor([-1.0, 1.0])  # variance 2
    spread = torch.stack([at * (v / 2) ** 0.5 for v in (0.0099, 0.0101, 1.0, 0.0)], 1)
    use = LatentUse({"z": spread}, {"z": torch.tensor([5.0, 5.0, 0.0, 0.0])})
    assert use.active_units == 2 and use.verdict() is None


@pytest.mark.parametrize("nats, told", [(1.99, True), (2.0, False), (float("nan"), True)])
def test_the_gate_stands_at_two_nats(nats, told):
    use = LatentUse({"z": torch.tensor([[-1.0], [1.0]])}, {"z": torch.tensor([nats])})
    assert (use.verdict() is not None) is told


@pytest.mark.parametrize("training", [True, False])
def test_looks_in_evaluation_mode_and_leaves_the_mode(table, training):
    sizes = dict(genes=table.genes, latent=2, hidden=8)
    guide = VAEGuide(**sizes, encoder_dropout=0.9)
    objective = MeanField(VAE(**sizes), guide, cells=64).eval()
    exact = guide.posterior.loc(guide.encode(table.columns["x"].log1p()))
    objective.train(training)
    assert torch.allclose(latent_use(objective, table.validation()).loc, exact, atol=1e-6)
    assert [m.training for m in (objective, objective.model, guide.encode[2])] == 3 * [training]


def test_leaves_the_modes_of_a_pair_just_bound(table):
    """An objective made to ask a question does not switch the dropout of its halves on."""
    sizes = dict(genes=table.genes, latent=2, hidden=8)
    pair = VAE(**sizes).eval(), VAEGuide(**sizes).eval()
    latent_use(MeanField(*pair, cells=1), table.validation())
    assert not any(half.training for half in pair)
