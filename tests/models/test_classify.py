"""A head that does not count leaves the VAE as it was, to the last bit."""

import numpy as np
import pytest
import torch

import pgm_expr
from pgm_expr.simulate import simulate

FEW = dict(epochs=4, warmup_epochs=2, progress=False, latent=3, hidden=16)


@pytest.fixture(scope="module")
def cells():
    adata = simulate(150, 40, seed=0, types=3, time=True).to_anndata()
    rng = np.random.default_rng(0)
    adata.obs["label"] = adata.obs["type"].astype(str).where(rng.random(150) < 0.3)
    adata.obs["dose"] = adata.obs["time"].where(rng.random(150) < 0.5)
    return adata


def weights(run):
    halves = {"model": run.model, "guide": run.guide}
    return {f"{h}.{n}": t for h, half in halves.items() for n, t in half.state_dict().items()}


SUPERVISED = pytest.mark.parametrize(
    "story, column", [("classify", {"labels_key": "label"}), ("regress", {"target_key": "dose"})]
)


@pytest.mark.filterwarnings("ignore::pgm_expr.api.PosteriorCollapse")
@SUPERVISED
def test_cells_are_drawn_without_what_is_predicted(cells, story, column):
    """From the prior, and from a generator of the posteriors."""
    run = pgm_expr.fit(cells, story, **column, **FEW).learn("flow", steps=2, progress=False)
    for drawn in (run.sample(5), run.generate(5, by="flow"), run.generate(5, by="prior")):
        assert drawn.shape == (5, cells.n_vars) and drawn.X.sum() > 0


@pytest.mark.filterwarnings("ignore::pgm_expr.api.PosteriorCollapse")  # after so few epochs
@SUPERVISED
def test_without_supervision_it_is_the_vae_bit_for_bit(cells, story, column):
    # the same column in both fits: where labels are few it also decides which cells validate
    plain = weights(pgm_expr.fit(cells, "vae", **column, **FEW))
    unweighed = weights(pgm_expr.fit(cells, story, supervision=0.0, **column, **FEW))
    weighed = weights(pgm_expr.fit(cells, story, supervision=20.0, **column, **FEW))
    assert plain.keys() == {name for name in unweighed if ".head." not in name}
    assert all(torch.equal(plain[name], unweighed[name]) for name in plain)
    assert any(not torch.equal(plain[name], weighed[name]) for name in plain)
