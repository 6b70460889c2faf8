"""Slow: what priors, posteriors, decoders and libraries do to the latent space, where it is known.

Differences of held-out bounds are paired over cells; "more" is by two of their standard errors,
which chance alone reaches once in 44 times.
"""

import functools

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import pgm_expr
from pgm_expr.evaluation import amortisation_gap, iwae, standard_error
from pgm_expr.guides import VAEGuide
from pgm_expr.inference import ELBO, Trace, latent_use, seeded
from pgm_expr.nn import mlp
from pgm_expr.parts import MixtureOfNormals, NegativeBinomial, StandardNormal
from pgm_expr.predict import draw_prior
from pgm_expr.simulate import Scales, simulate

pytestmark = pytest.mark.slow

SHORT = dict(progress=False, batch_size=128, learning_rate=5e-3, epochs=80)
TYPES = 5
SURE = 2.0  # standard errors
fit = functools.partial(pgm_expr.fit, **SHORT)


class Deep(nn.Module):
    """models/vae.py with a decoder of any width and depth."""

    skip = False

    def __init__(self, genes, average=None, latent=8, width=64, layers=1):
        super().__init__()
        self.prior = StandardNormal(latent)
        self.decode = mlp(latent, width, genes, layers=layers, skip=self.skip)
        self.likelihood = NegativeBinomial(genes, average)

    def forward(self, library, x=None):
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z", self.prior())  # (N, D)
            return pyro.sample("x", self.likelihood(self.decode(z), library), obs=x)  # (N, G)


class Skipped(Deep):
    skip = True


class OneDepth(nn.Module):
    """models/vae.py and prior `mog`, for cells that are all as deep as their geometric mean."""

    def __init__(self, genes, average=None, log_library=None, latent=4, hidden=64):
        super().__init__()
        self.prior = MixtureOfNormals(latent)
        self.decode = mlp(latent, hidden, genes, dropout=0.1)
        self.likelihood = NegativeBinomial(genes, average)
        self.register_buffer("depth", log_library[0].exp())

    def forward(self, library, x=None):
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z", self.prior())  # (N, D)
            likelihood = self.likelihood(self.decode(z), self.depth.expand_as(library))
            return pyro.sample("x", likelihood, obs=x)  # (N, G)


def held_out(run):
    return run.table.cells.rows(run.table.split.test)


@torch.no_grad()
def elbo(run, draws=300):
    """The evidence lower bound of each test cell by many draws, (N,)."""
    bound = Trace(run.model, run.guide, cells=float("inf"), particles=draws).eval()
    with seeded(0):
        return bound.per_cell(**held_out(run))


def log_p(run, draws=300):
    return iwae(run.model, run.guide, [held_out(run)], (draws,))[draws]


def errors(difference):
    """A mean difference in its own standard errors."""
    return (difference.mean() / standard_error(difference)).item()


def use(run):
    return latent_use(run.bound(), [held_out(run)])


def told_apart(run):
    """Cross-validated AUC of a logistic probe of prior draws against test cells: .5 is best."""
    cells = held_out(run)
    with seeded(0):
        drawn = draw_prior(run.model, [cells])
    x = torch.cat([cells["x"], drawn]).log1p().numpy()
    y = np.repeat([0, 1], len(drawn))
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    return cross_val_score(classifier, x, y, cv=5, scoring="roc_auc").mean()


def test_draws_of_a_plain_autoencoder_are_worse_than_the_vaes():
    """With beta 0 no code is asked to look like the prior: zeros, means and C2ST all suffer."""
    adata = simulate(1000, 60, seed=0, latent=2, median_library=300.0).to_anndata()
    figures = {}
    for name, beta in {"vae": {}, "autoencoder": dict(beta=0.0, warmup_epochs=0)}.items():
        run = fit(adata, latent=5, hidden=64, **beta)
        figures[name] = {**run.evaluate(), "auc": told_apart(run)}
    for figure in ("zero_rate_mae", "mean_log_ratio", "auc"):
        assert figures["autoencoder"][figure] > figures["vae"][figure], figure


def test_vamp_prior_beats_the_normal_on_clusters_and_its_cells_are_types():
    """Held-out ELBO not lower; every type is some pseudo-cell's nearest, and pseudo-cells that
    lie within the radius of 95% of that type's own cells hold four fifths of the weight."""
    scales = Scales(type=1.2, latent=0.3)
    truth = simulate(1000, 60, seed=2, types=TYPES, latent=2, median_library=500.0, scales=scales)
    adata = truth.to_anndata()
    normal = fit(adata, latent=5, hidden=64)
    vamp = fit(adata, prior="vamp", pseudo_inputs=20, latent=5, hidden=64)
    gain = elbo(vamp) - elbo(normal)

    latent, prior = vamp.embed(adata), vamp.model.prior
    with torch.no_grad():
        pseudo = vamp.guide.posterior(vamp.guide.encode(prior.cells)).mean.numpy()  # (K, D)
        weight = prior.logits.softmax(0).numpy()
    centres = np.stack([latent[truth.type == k].mean(0) for k in range(TYPES)])
    radius = [
        np.quantile(np.linalg.norm(latent[truth.type == k] - centres[k], axis=1), 0.95)
        for k in range(TYPES)
    ]
    distance = np.linalg.norm(pseudo[:, None] - centres, axis=-1)  # (K, types)
    nearest = distance.argmin(1)
    assert errors(gain) > -SURE
    assert set(nearest) == set(range(TYPES))
    assert weight[distance.min(1) < np.take(radius, nearest)].sum() > 0.8


def test_a_flow_posterior_closes_part_of_the_gap_of_the_normal():
    """Few counts a cell bend the posterior: IWAE - ELBO falls by two paired standard errors."""
    truth = simulate(
        1000,
        40,
        seed=1,
        types=1,
        latent=2,
        median_library=30.0,
        scales=Scales(base=1.0, latent=2.0),
        dispersion=(1e3, 0.1),
    )
    adata = truth.to_anndata()[truth.x.sum(1) > 0].copy()
    gaps = []
    for posterior in ("normal", "flow"):
        run = fit(adata, posterior=posterior, latent=2, hidden=64)
        gaps.append(log_p(run) - elbo(run))
    assert errors(gaps[0] - gaps[1]) > SURE


@pytest.fixture(scope="module")
def prone():
    """Cells that a deep decoder without warm-up and with beta 2 fails to encode."""
    scales = Scales(latent=1.2)
    truth = simulate(800, 50, seed=1, types=1, latent=4, median_library=300.0, scales=scales)
    return functools.partial(fit, truth.to_anndata(), beta=2.0, warmup_epochs=0, latent=8)


@pytest.mark.filterwarnings("ignore::pgm_expr.inference.PosteriorCollapse")
def test_skip_connections_keep_a_deep_decoder_from_collapse(prone):
    """Three layers: more KL, more active units, and the held-out bound is no worse for it."""
    plain, skipped = (
        prone(story=pgm_expr.Story(model=model, guide=VAEGuide), layers=3)
        for model in (Deep, Skipped)
    )
    assert use(skipped).kl.sum() > use(plain).kl.sum() + 0.5
    assert use(skipped).active_units > use(plain).active_units
    assert errors(elbo(skipped) - elbo(plain)) > -SURE


@pytest.mark.filterwarnings("ignore::pgm_expr.inference.PosteriorCollapse")
def test_a_simpler_decoder_uses_more_of_the_latent_space(prone):
    """Three layers, two, one: active units rise with each that is taken away."""
    story = pgm_expr.Story(model=Deep, guide=VAEGuide)
    units = [use(prone(story=story, layers=layers)).active_units for layers in (3, 2, 1)]
    assert units == sorted(set(units))


@pytest.mark.filterwarnings("ignore::pgm_expr.inference.PosteriorCollapse")
def test_a_narrower_decoder_uses_more_of_the_latent_space():
    """On a curve, 256 hidden units can bend one dimension where 16 need another.

    Active units summed over two seeds, since of one fit they move by one.
    """
    truth = simulate(
        800,
        50,
        seed=1,
        types=1,
        latent=0,
        time=True,
        null=0.0,
        median_library=1000.0,
        library_sd=0.2,
        scales=Scales(time=3.0),
    )
    prone = functools.partial(fit, truth.to_anndata(), warmup_epochs=0, latent=8)
    story = pgm_expr.Story(model=Deep, guide=VAEGuide)
    units = [
        sum(use(prone(story=story, width=width, seed=seed)).active_units for seed in (1, 2))
        for width in (256, 16)
    ]
    assert units[1] > units[0]


def trained(run, guide, steps):
    """`guide` after some steps of Adam on the training cells; the run's model stays as it is."""
    bound = ELBO(run.model, guide, cells=float("inf"))
    optimizer, order = torch.optim.Adam(guide.parameters(), 5e-3), np.random.default_rng(0)
    for _ in range(steps):
        cells = run.table.cells.rows(order.choice(run.table.split.train, 128))
        optimizer.zero_grad()
        bound(**cells).backward()
        optimizer.step()
    return guide.eval()


def test_the_amortisation_gap_shrinks_with_a_better_guide():
    """Of one frozen model: the guide trained with it has a gap, guides of ten steps or of two
    hidden units a larger one; each by two (paired) standard errors."""
    run = fit(simulate(800, 60, seed=4).to_anndata(), latent=5, hidden=64)
    with seeded(0):
        hasty = trained(run, VAEGuide(60, latent=5, hidden=64), steps=10)
        narrow = trained(run, VAEGuide(60, latent=5, hidden=2, encoder_dropout=0.0), steps=400)
    cells = {name: column[:60] for name, column in held_out(run).items()}
    own, *others = (
        amortisation_gap(run.model, guide, [cells], steps=150).gap
        for guide in (run.guide, hasty, narrow)
    )
    assert errors(own) > SURE
    assert all(errors(other - own) > SURE for other in others)


@pytest.fixture(scope="module")
def depths():
    """Depth varies tenfold: so do the 95th and the 5th percentile of this log-normal."""
    sd = np.log(10) / (2 * 1.645)
    return simulate(
        1000,
        60,
        seed=6,
        types=3,
        latent=2,
        median_library=2000.0,
        library_sd=sd,
        dispersion=(5.0, 0.5),
        scales=Scales(base=0.5),
    )


@pytest.fixture(scope="module")
def observed(depths):
    """With a prior that has a place for each type: N(0, I) would draw the posteriors of thin cells
    to 0, away from their type, and so along with the depth."""
    return fit(depths.to_anndata(), prior="mog", latent=4, hidden=64)


def test_an_observed_library_pays_and_leaves_the_state_alone(depths, observed):
    """Held-out log p beats a library held at the mean; |Spearman(z_d, depth)| within a type is
    below .1 on average over types and dimensions (chance alone leaves .04 with 330 cells)."""
    adata = depths.to_anndata()
    fixed = fit(adata, story=pgm_expr.Story(model=OneDepth, guide=VAEGuide), latent=4, hidden=64)
    gain = log_p(observed) - log_p(fixed)
    latent = observed.embed(adata)
    found = [
        abs(spearmanr(latent[depths.type == k, d], depths.library[depths.type == k])[0])
        for k in range(3)
        for d in range(4)
    ]
    assert errors(gain) > SURE
    assert np.mean(found) < 0.1


def test_twice_the_library_is_twice_the_counts(depths, observed):
    """Of expected counts exactly so, entry by entry; of drawn totals within 5%."""
    adata = depths.to_anndata()
    once, twice = (observed.normalized_expression(adata, library=x) for x in (1e3, 2e3))
    totals = [observed.sample(1000, library=np.full(1000, x)).X.sum() for x in (1e3, 2e3)]
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-4)
    assert totals[1] / totals[0] == pytest.approx(2, rel=0.05)


def test_a_latent_library_is_found(depths):
    """Posterior mean of log library against the truth over test cells, r > .95."""
    run = fit(depths.to_anndata(), story="latent_library", latent=2, hidden=64)
    run.guide.eval()
    with torch.no_grad():
        cells = {name: held_out(run)[name] for name in ("library", "x")}
        site = poutine.trace(run.guide).get_trace(**cells).nodes["log_library"]
    found, known = site["fn"].mean[:, 0].numpy(), np.log(depths.library[run.table.split.test])
    assert np.corrcoef(found, known)[0, 1] > 0.95
