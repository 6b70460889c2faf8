"""A run as ArviZ takes it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..evaluation import inference_data
from ..evaluation.arviz import loo_pit_arguments
from ..evaluation.counts import thinning
from ..evaluation.counts.loo_pit import left_out
from ..predict import predict
from ..runs.subset import held_out_and_known

if TYPE_CHECKING:
    from anndata import AnnData

    from ..runs.fitted import Fitted


def to_arviz(
    run: Fitted,
    data: AnnData | str | Path | None = None,
    *,
    cells: int = 100,
    genes: Sequence[str] | None = None,
    draws: int = 100,
) -> Any:
    """Posterior, posterior predictive, prior predictive and log-likelihood of held-out cells.

    Parameters
    ----------
    data
        Cells, as for `embed`; the test cells of the fit by default.
    cells, genes
        How many cells at most, and which genes; all genes by default.
    draws
        Posterior draws.

    Returns
    -------
    InferenceData (ArviZ 1.x: DataTree) with the dimensions chain, draw, cell, gene, latent.

    Raises
    ------
    ValueError
        For genes unknown to the fit.

    Examples
    --------
    >>> data = run.to_arviz(cells=5, draws=4)
    >>> data["posterior"]["z"].shape
    (1, 4, 5, 2)
    """
    only = _positions(run, genes)
    subset, _ = held_out_and_known(run, data, cells=cells)
    return inference_data.to_arviz(
        run.model,
        run.guide,
        subset.batches(),
        draws=draws,
        cells=subset.names.tolist(),
        genes=list(run.notes["genes"]),
        only=only,
    )


def loo_pit(
    run: Fitted,
    data: AnnData | str | Path | None = None,
    *,
    cells: int = 100,
    genes: Sequence[str] | None = None,
    draws: int = 100,
) -> dict[str, Any]:
    """The arguments of `arviz.plot_loo_pit`, in ArviZ 1.x of `arviz.plot_ecdf_pit`.

    One half of the counts of held-out cells, by binomial thinning, and draws of it given the
    other half.

    Parameters
    ----------
    data, cells, genes, draws
        As for `to_arviz`.

    Returns
    -------
    By the names of the arguments. ArviZ 0.x: the arrays `y`, `y_hat` and `log_weights`, so
    `az.plot_loo_pit(**run.loo_pit())`. ArviZ 1.x: `dt`, a DataTree of the values, its `group` and
    its `sample_dims`, so `az.plot_ecdf_pit(**run.loo_pit())`.

    Raises
    ------
    ValueError
        For genes unknown to the fit.

    Examples
    --------
    >>> arguments = run.loo_pit(cells=5, draws=4)
    >>> set(arguments) in ({"y", "y_hat", "log_weights"}, {"dt", "group", "sample_dims"})
    True
    """
    only = _positions(run, genes)
    subset, _ = held_out_and_known(run, data, cells=cells)
    pairs = thinning.halves(subset.batches())
    found = left_out(partial(predict, run.model, run.guide), pairs, draws=draws, only=only)
    return loo_pit_arguments(**found)


def _positions(run: Fitted, genes: Sequence[str] | None) -> list[int] | None:
    """Positions of genes in the fit; ValueError for others."""
    if genes is None:
        return None
    known = list(run.notes["genes"])
    if unknown := [gene for gene in genes if gene not in known]:
        raise ValueError(
            f"genes unknown to the fit: {', '.join(map(repr, unknown[:5]))}. Name others."
        )
    return [known.index(gene) for gene in genes]
