"""What ArviZ documents works on a fitted story; comparisons rest on held-out cells."""

import warnings

import matplotlib
import numpy as np
import pytest
import torch

from pgm_expr.evaluation.inference_data import compare, elpd, loo, to_arviz
from pgm_expr.guides import BayesianVAEGuide, VAEGuide
from pgm_expr.models import VAE, BayesianVAE

matplotlib.use("Agg")
GENES, CELLS = 12, 30


@pytest.fixture(scope="module")
def az():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import arviz
    return arviz


@pytest.fixture
def batches():
    torch.manual_seed(0)
    x = torch.poisson(torch.full((CELLS, GENES), 5.0)) + 1
    whole = {"x": x, "library": x.sum(-1, keepdim=True)}
    return [{key: value[at] for key, value in whole.items()} for at in (slice(20), slice(20, 30))]


@pytest.fixture
def story():
    torch.manual_seed(1)
    return VAE(GENES, latent=3, hidden=8), VAEGuide(GENES, latent=3, hidden=8)


@pytest.fixture
def data(story, batches):
    cells, genes = [f"c{i}" for i in range(CELLS)], [f"g{i}" for i in range(GENES)]
    return to_arviz(*story, batches, draws=40, cells=cells, genes=genes)


def test_groups_and_dims_are_named(data):
    sizes = {"chain": 1, "draw": 40, "cell": CELLS}
    assert dict(data.posterior["z"].sizes) == sizes | {"latent": 3}
    assert dict(data.posterior_predictive["x"].sizes) == sizes | {"gene": GENES}
    assert dict(data.log_likelihood["x"].sizes) == sizes
    assert dict(data.observed_data["x"].sizes) == {"cell": CELLS, "gene": GENES}
    assert data.observed_data["x"].sel(cell="c21", gene="g3") == data.observed_data["x"][21, 3]
    assert dict(data.constant_data["library"].sizes) == {"cell": CELLS}


def test_log_likelihood_is_of_the_draw(data, story, batches):
    """By the model's own mean counts at the draw: NB of scipy."""
    from scipy import stats

    model = story[0].eval()
    z = torch.as_tensor(data.posterior["z"].values[0, 7])
    x = torch.cat([b["x"] for b in batches])
    library = torch.cat([b["library"] for b in batches])
    with torch.no_grad():
        mean = model.likelihood(model.decode(z), library).mean.double().numpy()
    theta = model.likelihood.log_dispersion.exp().detach().double().numpy()
    expected = stats.nbinom.logpmf(x.numpy(), theta, theta / (theta + mean)).sum(-1)
    assert np.allclose(data.log_likelihood["x"].values[0, 7], expected, rtol=1e-4)


def test_counts_of_some_genes_alone(story, batches):
    data = to_arviz(*story, batches, draws=5, only=[2, 5])
    assert data.posterior_predictive["x"].shape == (1, 5, CELLS, 2)
    assert list(data.observed_data["gene"].values) == [2, 5]


def test_too_much_is_refused_with_its_size(story, batches):
    with pytest.raises(ValueError, match=r"30 cells x 12 genes x 1000000 draws take 1.4 GB"):
        to_arviz(*story, batches, draws=1_000_000)


def test_what_arviz_documents_works(az, data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(az.summary(data, var_names=["z"], kind="stats")) == CELLS * 3
        some = data.isel(cell=slice(5))
        if hasattr(az, "plot_ppc"):
            assert az.plot_ppc(some, var_names=["x"], num_pp_samples=10) is not None
            assert az.plot_bpv(some, kind="p_value", var_names=["x"]) is not None
        else:  # 1.x
            assert az.plot_ppc_dist(some, var_names=["x"], num_samples=10) is not None
            assert az.plot_ppc_tstat(some, var_names=["x"]) is not None
        assert az.plot_trace(some, var_names=["z"], coords={"cell": "c1"}) is not None
    matplotlib.pyplot.close("all")


def total(found):
    """The elpd of an ELPDData, by its name in ArviZ 0.x or 1.x."""
    return found["elpd_loo"] if hasattr(found, "elpd_loo") else found.elpd


class TestCompare:
    def bounds(self):
        rng = np.random.default_rng(0)
        cell = rng.normal(-500, 40, 200)
        return {"a": cell, "b": cell - 2 + rng.normal(0, 1, 200), "c": cell - 30}

    def test_ranks_and_differences_are_those_of_the_pairs(self, az):
        bounds = self.bounds()
        table = compare(bounds)
        assert list(table.index) == ["a", "b", "c"] and list(table["rank"]) == [0, 1, 2]
        gap = bounds["a"] - bounds["b"]
        sign = 1 if hasattr(az, "psislw") else -1
        assert table.loc["b", "elpd_diff"] == pytest.approx(sign * gap.sum())
        assert table.loc["b", "dse"] == pytest.approx(200**0.5 * gap.std(), rel=1e-6)
        assert table.loc["c", "dse"] == pytest.approx(0, abs=1e-6)

    def test_an_elpd_sums_over_cells(self):
        found = elpd(torch.tensor([-3.0, -5.0]))
        assert total(found) == -8.0

    def test_other_cells_are_refused(self):
        with pytest.raises(ValueError, match="the same cells: got {'a': 2, 'b': 3}"):
            compare({"a": np.zeros(2), "b": np.zeros(3)})


class TestLoo:
    def test_of_states_of_cells_it_promises_nats_that_are_not_there(self, az, stories, ppca):
        """Of the true story with its exact posterior: left out, a cell has its evidence."""
        exact = stories.ExactGuide(ppca.model)
        data = to_arviz(ppca.model, exact, [ppca.batch], draws=400)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = az.loo(data, pointwise=True)
        assert total(found) > ppca.model.evidence(ppca.x).sum() + 1.0 * ppca.cells
        assert (found.pareto_k.values > 0.7).mean() > 0.5

    def test_nor_does_arviz_plot_loo_pit_of_them(self, az, data):
        if hasattr(az, "psislw"):
            with pytest.raises(ValueError, match="y_hat and log_weights must have the same shape"):
                az.plot_loo_pit(data, y="x")
        else:
            with pytest.raises(IndexError, match="out of bounds"):
                az.plot_loo_pit(data)

    def test_states_of_cells_are_refused_with_the_reason(self, story, batches):
        with pytest.raises(ValueError, match="VAE has no site that all cells share"):
            loo(*story, batches)

    def test_sites_of_all_cells_are_taken(self, batches):
        torch.manual_seed(2)
        model = BayesianVAE(GENES, latent=2, hidden=8)
        guide = BayesianVAEGuide(GENES, model=model, latent=2, hidden=8)
        from pgm_expr.inference import ELBO

        ELBO(model, guide, cells=CELLS)(**batches[0])  # an AutoGuide's parameters exist from here
        found = loo(model, guide, batches, draws=30, k=10)
        assert found["n_data_points"] == CELLS and np.isfinite(total(found))
