"""A prediction: summaries against numpy, the picture, and expression with its draws."""

import anndata
import numpy as np
import pytest

from pgm_expr.tasks import Prediction


@pytest.fixture
def found():
    draws = np.random.default_rng(0).normal(size=(400, 2, 3)) + np.arange(3)
    names = dict(rows=["a", "b"], genes=["x", "y", "z"], quantity="counts", story="vae")
    return Prediction(draws, n=np.array([4, 6]), rivals={"unchanged": np.zeros((2, 3))}, **names)


def test_summaries(found):
    assert np.allclose(found.mean, found.draws.mean(0))
    assert np.allclose(found.sd, found.draws.std(0, ddof=1))
    low, high = found.interval(0.8)
    assert np.allclose(((found.draws > low) & (found.draws < high)).mean(0), 0.8, atol=0.01)
    with pytest.raises(ValueError, match="level must be between 0 and 1: got 95"):
        found.interval(95)


def test_a_frame_is_in_the_order_of_rows_and_genes(found):
    table = found.to_frame().set_index(["row", "gene"])
    assert table.loc[("b", "z"), "mean"] == pytest.approx(found.mean[1, 2])
    assert table.loc[("a", "y"), "high"] == pytest.approx(found.interval()[1, 0, 1])
    assert (found.to_anndata().layers["sd"] == found.sd).all()


def test_a_plot_names_the_genes(found, tmp_path):
    import matplotlib

    matplotlib.use("agg")
    ax = found.plot("b", genes=2)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["y", "z"]
    assert ax.get_xlabel() == "counts" and ax.get_title() == "b"


def test_draws_of_expression_average_to_the_default(fitted):
    run, adata = fitted("cvae"), anndata.read_h5ad(fitted.data("cvae"))
    mean = run.normalized_expression(adata, library=100.0)
    found = run.normalized_expression(adata, library=100.0, return_draws=True)
    assert isinstance(mean, np.ndarray) and found.draws.shape == (25, *mean.shape)
    assert np.allclose(found.mean, mean, rtol=0.2, atol=0.05) and list(found.rows) == [
        *adata.obs_names
    ]
    by_type = run.normalized_expression(adata, return_draws=True, groupby="type")
    assert by_type.draws.shape == (25, 2, 30) and by_type.n.sum() == adata.n_obs
    with pytest.raises(ValueError, match="groupby='type' has no effect"):
        run.normalized_expression(adata, groupby="type")
