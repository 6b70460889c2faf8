r"""A fitted story for ArviZ, whose plots, summaries and comparisons work as documented there.

    group                 variable      dims
    posterior             each latent   chain, draw, cell, latent      z ~ q(z | x)
    posterior_predictive  x             chain, draw, cell, gene        x ~ p(x | z, library)
    log_likelihood        x             chain, draw, cell              log p(x | z, library)
    observed_data         x             cell, gene
    constant_data         library       cell

Draws of a guide are independent, so there is one chain. `az.loo` assumes that the posterior of
all that a cell's counts depend on hardly changes when the cell is left out. That of its state
does: k is above 0.7 for nearly every cell, Poisson wins over NB on cells of the fit, and for the
exact posterior of a linear Gaussian story `az.loo` exceeds the evidence. So stories are compared
on held-out cells, each with its importance-weighted bound as elpd: `compare`. `az.plot_loo_pit`
rests on the same weights: see `loo_pit` for what it can be given.

Kumar et al., Journal of Open Source Software 2019, https://doi.org/10.21105/joss.01143
Vehtari, Gelman and Gabry, Statistics and Computing 2017, https://doi.org/10.1007/s11222-016-9696-4
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from pyro import poutine
from torch import Tensor, nn

from ..inference import seeded
from ..inference.tracing import log_prob, sample_sites, trace, within_cells
from ..predict import SEED, Batch, draw_prior
from .arviz import arviz, before_one
from .guide.health import log_weights
from .guide.sites import shared_sites

MOST = 200_000_000  # cells x genes x draws: 800 MB of float32
CELL, GENE = "cell", "gene"


@torch.no_grad()
def to_arviz(
    model: nn.Module,
    guide: nn.Module,
    batches: Iterable[Batch],
    *,
    draws: int = 100,
    cells: Sequence[str] | None = None,
    genes: Sequence[str] | None = None,
    only: Sequence[int] | None = None,
) -> Any:
    """Draws and log likelihoods of some cells as ArviZ takes them.

    Parameters
    ----------
    model, guide
        A fitted pair.
    batches
        Minibatches of the N cells.
    draws
        Draws of the guide, and of counts.
    cells, genes
        Names; positions by default.
    only
        Positions of the genes whose counts are kept, all by default.

    Returns
    -------
    InferenceData (ArviZ 0.x) or DataTree (1.x)

    Raises
    ------
    ValueError
        Where cells x genes x draws take more than 0.8 GB.

    Examples
    --------
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.models import VAE
    >>> pair = VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2)
    >>> cells = {"x": torch.ones(8, 5), "library": torch.full((8, 1), 5.0)}
    >>> data = to_arviz(*pair, [cells], draws=3)
    >>> data.posterior["z"].shape, data.log_likelihood["x"].shape
    ((1, 3, 8, 2), (1, 3, 8))
    """
    kept = list(batches)
    n = sum(len(b["library"]) for b in kept)
    chosen = np.arange(kept[0]["x"].shape[1]) if only is None else np.asarray(only)
    check_size(n, len(chosen), draws)
    with seeded(SEED):
        parts = [[_draw(model, guide, b, chosen) for b in kept] for _ in range(draws)]
    drawn = {name: _stacked(parts, name) for name in parts[0][0]}
    latents = {name: value for name, value in drawn.items() if name not in ("x", "log p")}
    names = np.arange(n) if cells is None else np.asarray(cells)
    labels = np.arange(kept[0]["x"].shape[1]) if genes is None else np.asarray(genes)
    groups = {
        "posterior": latents,
        "posterior_predictive": {"x": drawn["x"]},
        "log_likelihood": {"x": drawn["log p"]},
        "observed_data": {"x": _joined(kept, "x")[:, chosen]},
        "constant_data": {"library": _joined(kept, "library")[:, 0]},
    }
    dims = {name: _dims(name, value, n) for name, value in latents.items()}
    coords = {CELL: names, GENE: labels[chosen]}
    return _from_dict(groups, dims | {"x": [CELL, GENE], "library": [CELL]}, coords)


def check_size(cells: int, genes: int, draws: int) -> None:
    """Refuse counts that take more than 0.8 GB (ValueError)."""
    if cells * genes * draws > MOST:
        raise ValueError(
            f"{cells} cells x {genes} genes x {draws} draws take "
            f"{4e-9 * cells * genes * draws:.1f} GB. Pass fewer cells, genes (`only`) or draws."
        )


def _draw(model: nn.Module, guide: nn.Module, batch: Batch, chosen: np.ndarray) -> dict:
    """One draw of latents and counts of some cells, and log p of their counts."""
    model.eval(), guide.eval()
    guided = trace(guide, batch)
    nodes: Mapping[str, Any] = trace(model, batch, at=guided).nodes
    at = nodes["x"]
    found = {site["name"]: site["value"] for site in sample_sites(guided)}
    x = at["fn"].sample()[:, torch.as_tensor(chosen, device=at["value"].device)]
    return found | {"x": x, "log p": log_prob(at)}


def _stacked(parts: list[list[dict]], name: str) -> np.ndarray:
    """(1, S, ...): one chain."""
    rows = [torch.cat([torch.atleast_1d(p[name]) for p in draw]).cpu().numpy() for draw in parts]
    return np.stack(rows)[None]


def _joined(batches: list[Batch], key: str) -> np.ndarray:
    return torch.cat([batch[key] for batch in batches]).cpu().numpy()


def _dims(name: str, value: np.ndarray, cells: int) -> list[str]:
    """Names of a latent's dims after chain and draw."""
    first = [CELL] if value.shape[2] == cells else [f"{name}_global"]
    return first + [f"{name}_latent" if value.ndim > 4 else "latent"] * (value.ndim - 3)


def _from_dict(groups: dict, dims: dict, coords: dict) -> Any:
    az = arviz()
    shapes = {**dims}
    if before_one(az):
        likelihood = groups.pop("log_likelihood")
        found = az.from_dict(**groups, dims=shapes, coords=coords)
        inner = az.from_dict(log_likelihood=likelihood, dims={"x": [CELL]}, coords=coords)
        return az.concat(found, inner)
    likelihood = groups.pop("log_likelihood")  # dims are given by variable, so by itself
    found = az.from_dict(groups, dims=shapes, coords=coords)
    inner = az.from_dict({"log_likelihood": likelihood}, dims={"x": [CELL]}, coords=coords)
    found["log_likelihood"] = inner["log_likelihood"]
    return found


def elpd(bounds: Tensor | np.ndarray) -> Any:
    """Held-out bounds of N cells, nats, as the ELPDData that `az.compare` takes.

    The cells were left out in fact, so there is no correction: p is 0, and there is no k.

    Examples
    --------
    >>> elpd(torch.tensor([-10.0, -12.0])).n_data_points
    2
    """
    import xarray

    az, values = arviz(), np.asarray(bounds, np.float64)
    n = len(values)
    se = float(np.sqrt(n * values.var()))
    rows = dict(
        elpd_loo=values.sum(), se=se, p_loo=0.0, n_samples=n, n_data_points=n, warning=False,
        loo_i=values, scale="log",
    )  # fmt: skip
    if before_one(az):
        rows["loo_i"] = xarray.DataArray(values, dims=[CELL])
        from arviz.stats.stats_utils import ELPDData

        return ELPDData(data=list(rows.values()), index=list(rows))
    of_loo = getattr(az, "ELPDDataLOO", None) or partial(az.ELPDData, kind="loo")  # before 1.3
    return of_loo(
        elpd=values.sum(), se=se, p=0.0, n_samples=n, n_data_points=n, scale="log",
        warning=False, good_k=0.7, elpd_i=xarray.DataArray(values, dims=[CELL]),
        pareto_k=xarray.DataArray(np.zeros(n), dims=[CELL]),
    )  # fmt: skip


def compare(bounds: Mapping[str, Tensor | np.ndarray]) -> pd.DataFrame:
    """`az.compare` of stories by their bounds of the same held-out cells, best first.

    Parameters
    ----------
    bounds
        Nats of each cell, (N,), by story.

    Returns
    -------
    DataFrame
        `elpd_diff` and `dse` are sums over cells: divided by N they are nats per cell.
        ArviZ 1.x subtracts the best story from each, ArviZ 0.x each from the best.

    Raises
    ------
    ValueError
        Where the numbers of cells differ.
    """
    sizes = {name: len(values) for name, values in bounds.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"stories must be judged on the same cells: got {sizes}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        az, elpds = arviz(), {name: elpd(values) for name, values in bounds.items()}
        return az.compare(elpds) if before_one(az) else az.compare(elpds, round_to="none")


@torch.no_grad()
def given_shared(
    model: nn.Module, guide: nn.Module, batches: list[Batch], draws: int, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """log p(x_n | shared), (S, N), and counts of new cells, (S, N, G), at draws of shared sites.

    The state of each cell is integrated out by `k` importance-weighted draws. ValueError where no
    site is shared by all cells.
    """
    if all(within_cells(site) for site in sample_sites(trace(guide, batches[0]))):
        raise ValueError(
            f"{type(model).__name__} has no site that all cells share, and az.loo is invalid for "
            "states of cells, which change with the cell. Compare stories on held-out cells."
        )
    log_p, x = [], []
    with seeded(SEED):
        for _ in range(draws):
            with poutine.replay(trace=shared_sites(guide, batches[0])):
                bounds = [log_weights(model, guide, b, k).logsumexp(0) for b in batches]
                x.append(draw_prior(model, batches).cpu().numpy())
            log_p.append(torch.cat(bounds).cpu().numpy() - np.log(k))
    return np.stack(log_p), np.stack(x)


@torch.no_grad()
def loo(
    model: nn.Module, guide: nn.Module, batches: Iterable[Batch], *, draws: int = 100, k: int = 50
) -> Any:
    """`az.loo` of a story with sites that all cells share, over draws of those.

    The state of each cell is integrated out by importance-weighted draws.

    Parameters
    ----------
    model, guide
        A fitted pair.
    batches
        Minibatches of the N cells.
    draws
        Draws of the shared sites.
    k
        Importance draws of the state of each cell.

    Raises
    ------
    ValueError
        For a story whose latents are all of cells: leaving a cell out would change its state,
        which LOO takes as unchanged. Compare such stories on held-out cells, see `compare`.
    """
    log_p, _ = given_shared(model, guide, list(batches), draws, k)
    log_likelihood = {"x": log_p[None]}
    az = arviz()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of k, which is part of the result
        only = {"posterior": {"shared": np.zeros((1, draws))}, "log_likelihood": log_likelihood}
        data = az.from_dict(**only) if before_one(az) else az.from_dict(only)
        return az.loo(data, pointwise=True)
