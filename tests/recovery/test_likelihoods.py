"""Slow: each likelihood finds what it is about in simulated cells, and beats what it should.

Differences of held-out log p are paired over cells; "beats" is by two of their standard errors,
which chance alone reaches once in 44 times.
"""

from dataclasses import replace

import anndata
import numpy as np
import pyro
import pytest
import torch
from torch import nn

import pgm_expr
from pgm_expr.evaluation import iwae, standard_error
from pgm_expr.guides import VAEGuide
from pgm_expr.nn import mlp
from pgm_expr.parts import NegativeBinomialByBatch, StandardNormal
from pgm_expr.simulate import Scales, simulate
from pgm_expr.zoo import measure

pytestmark = pytest.mark.slow

SHORT = dict(progress=False, batch_size=128, learning_rate=5e-3, epochs=80, latent=5, hidden=64)
DRAWS = 200
SURE = 2.0  # standard errors


class ByBatch(nn.Module):
    """models/vae.py with a dispersion for each gene and batch."""

    def __init__(self, genes, batches, average=None, latent=5, hidden=64):
        super().__init__()
        self.prior = StandardNormal(latent)
        self.decode = mlp(latent, hidden, genes, dropout=0.1)
        self.likelihood = NegativeBinomialByBatch(genes, batches, average)

    def forward(self, library, batch, x=None):
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z", self.prior())  # (N, D)
            eta = self.decode(z)  # (N, G)
            return pyro.sample("x", self.likelihood(eta, library, batch), obs=x)  # (N, G)


def held_out(run):
    """log p(x | library) of each test cell, (N,)."""
    cells = run.table.cells.rows(run.table.split.test)
    return iwae(run.model, run.guide, [cells], (DRAWS,))[DRAWS]


def gain(run, other):
    """Nats per held-out cell of `run` above `other`, in paired standard errors."""
    difference = held_out(run) - held_out(other)
    return (difference.mean() / standard_error(difference)).item()


def correlation(a, b):
    return np.corrcoef(a, b)[0, 1]


def redrawn(truth, log_dispersion):
    """The same cells with counts of other dispersions, (N, G)."""
    return replace(truth, x=replace(truth, log_dispersion=log_dispersion).draw(7))


@pytest.fixture(scope="module")
def cells():
    return simulate(900, 120, seed=3, median_library=400.0).to_anndata()


@pytest.fixture(scope="module")
def nb(cells):
    return pgm_expr.fit(cells, labels_key="type", **SHORT)


def test_nb_beats_poisson_and_the_nb_that_knows_the_label(cells, nb):
    """On NB counts, both by more than two paired standard errors."""
    poisson = pgm_expr.fit(cells, likelihood="poisson", **SHORT)
    rows = {row["model"]: row for row in nb.evaluate()["table"]}
    assert gain(nb, poisson) > SURE
    assert rows["label_nb"]["story_minus"] > SURE * rows["label_nb"]["paired_se"]


def test_gaussian_finds_the_noise_of_each_gene():
    """log sigma over genes, r >= .9; sigma varies about sevenfold.

    Without dropout and weight decay: what they cost the decoder would count as noise.
    """
    rng = np.random.default_rng(0)
    sigma = np.exp(rng.normal(-1, 0.5, 60))
    values = rng.normal(size=(900, 3)) @ rng.normal(0, 0.5, (3, 60))
    values += sigma * rng.normal(size=values.shape)
    adata = anndata.AnnData(values - values.min(0), layers={"log": values - values.min(0)})
    exact = dict(decoder_dropout=0.0, encoder_dropout=0.0, weight_decay=0.0, epochs=250, latent=3)
    run = pgm_expr.fit(adata, layer="log", likelihood="gaussian", **SHORT | exact)
    found = run.model.likelihood.log_scale.detach().numpy()
    assert correlation(found, np.log(sigma)) >= 0.9


def test_gaussian_on_rounded_logs_compares_with_nb(cells, tmp_path):
    """Both are pmfs of the same counts: masses add up to 1, and one table ranks them."""
    both = dict(likelihoods=["nb", "rounded-gaussian"], epochs=60, latent=5, hidden=64, seeds=1)
    comparison = pgm_expr.compare(cells, out=tmp_path, draws=100, progress=False, **both)
    assert len({row["measure"] for row in comparison.rows}) == 1
    assert all(np.isfinite([row["heldout_iwae"], row["diff"]]).all() for row in comparison.rows)
    counts = torch.arange(20000.0)
    for name in ("nb", "rounded-gaussian"):
        likelihood = pgm_expr.zoo.PARTS["likelihood"][name](60)
        gene = likelihood(torch.zeros(1, 60), torch.full((1, 1), 600.0)).base_dist
        mass = gene.log_prob(counts[:, None].expand(-1, 60)).exp().sum(0)
        assert torch.allclose(mass, torch.ones(60), atol=1e-3)


@pytest.mark.parametrize("name", ["bernoulli", "dirichlet-multinomial"])
def test_detection_and_shares_are_judged_by_the_same_table(cells, nb, name):
    """Draws miss a gene's zero rate by at most twice what real cells do; measures differ."""
    run = pgm_expr.fit(cells, labels_key="type", likelihood=name, **SHORT)
    metrics, known = run.evaluate(), nb.metrics or nb.evaluate()
    assert {k for k in metrics if "baseline" not in k} == {k for k in known if "baseline" not in k}
    assert metrics["zero_rate_mae"] < 2 * metrics["zero_rate_floor"]
    assert measure(run.model) != measure(nb.model)


def test_dispersions_by_batch_are_found():
    """log theta_1 / theta_0 over genes of mean 3 and more, r >= .8; and plain NB is beaten."""
    truth = simulate(1000, 60, seed=5, types=2, latent=3, batches=2, scales=Scales(batch=0.0))
    log_dispersion = np.random.default_rng(1).normal(np.log(2), 0.7, (2, 60))
    truth = redrawn(truth, log_dispersion[truth.batch])
    story = pgm_expr.Story(model=ByBatch, guide=VAEGuide)
    run = pgm_expr.fit(truth.to_anndata(), story=story, batch_key="batch", **SHORT)
    plain = pgm_expr.fit(truth.to_anndata(), **SHORT)
    found = run.model.likelihood.log_dispersion.detach().numpy()
    seen = truth.x.mean(0) > 3
    assert correlation(*((each[1] - each[0])[seen] for each in (found, log_dispersion))) >= 0.8
    assert gain(run, plain) > SURE


def test_dispersions_by_cell_pay_where_types_differ_in_them():
    """Each type has dispersions of its own: a network of eta beats one number a gene."""
    truth = simulate(1000, 60, seed=6, types=3, latent=3)
    log_dispersion = np.random.default_rng(2).normal(np.log(2), 1.0, (3, 60))
    adata = redrawn(truth, log_dispersion[truth.type]).to_anndata()
    run, plain = (pgm_expr.fit(adata, likelihood=name, **SHORT) for name in ("nb-cell", "nb"))
    assert gain(run, plain) > SURE
