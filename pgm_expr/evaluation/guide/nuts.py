r"""Reference posteriors of a few cells by NUTS: a test of a guide, whatever its family.

    z_n ~ p(z | x_n, theta)   by Hamiltonian Monte Carlo, with the fitted model's theta held

    shift      (E_q[z] - E[z]) / sd[z]                0 for the exact posterior, by dimension
    width      sd_q[z] / sd[z]                        1; below 1 the guide is overconfident
    coverage   share of the reference's draws in the guide's central 50 and 90% intervals

The chains are copies of each cell in one minibatch: given theta, posteriors of cells are
independent, so one trajectory moves all of them. It starts at a draw of the guide. R-hat and the
effective sample size of every dimension are ArviZ's. Where R-hat is high (modes that chains do
not leave) there is no reference: `agreement` leaves these dimensions out and counts them.

Sites that all cells share are drawn once from the guide and held, as in `refine`.

Hoffman and Gelman, JMLR 2014, https://jmlr.org/papers/v15/hoffman14a.html
Vehtari et al., Bayesian Analysis 2021, https://doi.org/10.1214/20-BA1221
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS
from pyro.infer.autoguide import init_to_value
from pyro.poutine import Trace
from torch import Tensor, nn
from torch.distributions import biject_to

from ...inference import call, seeded
from ...inference.tracing import sample_sites, trace
from ...predict import SEED, Batch
from .sites import cell_sites, evaluating, shared_sites

MIXED = 1.05  # R-hat up to which chains agree
INTERVALS = (0.5, 0.9)
DEPTH = 7  # of the tree: up to 127 steps a draw
ACCEPT = 0.8


@dataclass(frozen=True)
class Reference:
    """Draws of the posteriors of N cells.

    Parameters
    ----------
    draws
        Latents, concatenated over sites, (chains, S, N, D).
    names
        Names of the D dimensions.
    shared
        Trace of the sites that all cells share.
    """

    draws: np.ndarray
    names: list[str]
    shared: Trace

    @property
    def rhat(self) -> np.ndarray:
        """R-hat of each cell and dimension, (N, D): 1 where chains agree."""
        return _diagnosed("rhat", self.draws)

    @property
    def ess(self) -> np.ndarray:
        """Effective number of draws (bulk) of each cell and dimension, (N, D)."""
        return _diagnosed("ess", self.draws)


class Agreement(NamedTuple):
    """A guide against the reference, over the M pairs of cell and dimension that mixed.

    Parameters
    ----------
    shift
        Difference of means in posterior standard deviations, (M,).
    width
        Ratio of standard deviations, guide over reference, (M,).
    coverage
        Share of the reference's draws in the guide's central intervals, by nominal probability.
    coverage_se
        Its standard error over pairs of cell and dimension.
    mixed
        Share of all pairs whose R-hat is at most 1.05.
    """

    shift: np.ndarray
    width: np.ndarray
    coverage: dict[float, float]
    coverage_se: dict[float, float]
    mixed: float


def reference(
    model: nn.Module,
    guide: nn.Module,
    batch: Batch,
    *,
    draws: int = 500,
    warmup: int = 300,
    chains: int = 4,
) -> Reference:
    """Sample the posteriors of the few cells of a minibatch with NUTS.

    Time grows with cells and draws: some minutes for ten cells of a story of 2,000 genes.

    Parameters
    ----------
    model, guide
        A fitted pair. The guide provides start values and draws of sites that all cells share.
    batch
        Minibatch of the N cells.
    draws, warmup
        Draws S per chain, and steps of adaptation before them.
    chains
        Number of chains.

    Raises
    ------
    ValueError
        For a discrete latent of cells (`DiscreteLatent`), and a story without a latent state of
        cells.

    Examples
    --------
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.models import VAE
    >>> pair = VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2)
    >>> cells = {"x": torch.ones(2, 5), "library": torch.full((2, 1), 5.0)}
    >>> found = reference(*pair, cells, draws=4, warmup=2, chains=2)
    >>> found.draws.shape, found.names
    ((2, 4, 2, 2), ['z[0]', 'z[1]'])
    """
    with evaluating(model, guide), seeded(SEED):
        shared = shared_sites(guide, batch)
        many = {name: torch.cat([value] * chains) for name, value in batch.items()}
        with poutine.replay(trace=shared):
            sites = cell_sites(model, guide, many)
        held = {site["name"]: site["value"] for site in sample_sites(shared)}
        free = {name: biject_to(site["fn"].support).inv for name, site in sites.items()}
        start = {name: free[name](site["value"]) for name, site in sites.items()}
        kernel = NUTS(
            poutine.condition(partial(call, model, many), data=held),
            max_tree_depth=DEPTH,
            target_accept_prob=ACCEPT,
            transforms=free,  # of the guide: Pyro has none for the support of a mixture
            init_strategy=init_to_value(values={n: s["value"] for n, s in sites.items()}),
        )
        sampler = MCMC(kernel, draws, warmup, initial_params=start, disable_progbar=True)
        sampler.run()
    parts = {n: _by_chain(v, chains) for n, v in sampler.get_samples().items() if n in sites}
    names = [f"{n}[{d}]" for n, part in parts.items() for d in range(part.shape[-1])]
    return Reference(np.concatenate([*parts.values()], -1), names, shared)


def agreement(found: Reference, guide: nn.Module, batch: Batch, draws: int = 2000) -> Agreement:
    """Compare a guide's posteriors with the reference of the same cells.

    Parameters
    ----------
    found
        Reference of the cells.
    guide
        Any guide of the same model, such as `refine.refined_guide`.
    batch
        The minibatch of the reference.
    draws
        Draws of the guide per cell.

    Raises
    ------
    ValueError
        Where no dimension of any cell mixed.
    """
    mixed = found.rhat <= MIXED
    if not mixed.any():
        raise ValueError(
            f"NUTS has not converged for any of {mixed.size} cells x dimensions (R-hat above "
            f"{MIXED}). Take more draws."
        )
    with evaluating(guide), seeded(SEED), torch.no_grad(), poutine.replay(trace=found.shared):
        guided: Mapping[str, Any] = trace(guide, batch, draws).nodes
    names = dict.fromkeys(name.split("[")[0] for name in found.names)
    ours = np.concatenate([_flat(guided[name]["value"], draws) for name in names], -1)
    theirs = found.draws.reshape(-1, *found.draws.shape[2:])  # (chains S, N, D)
    sd = theirs.std(0)
    covered = {level: _covered(ours, theirs, level)[mixed] for level in INTERVALS}
    means = {level: float(each.mean()) for level, each in covered.items()}
    errors = {level: float(each.std() / np.sqrt(len(each))) for level, each in covered.items()}
    shift, width = (ours.mean(0) - theirs.mean(0)) / sd, ours.std(0) / sd
    return Agreement(shift[mixed], width[mixed], means, errors, float(mixed.mean()))


def _by_chain(values: Tensor, chains: int) -> np.ndarray:
    """(S, chains N, ...) -> (chains, S, N, D)."""
    apart = values.reshape(len(values), chains, values.shape[1] // chains, -1)
    return apart.transpose(0, 1).double().cpu().numpy()


def _flat(values: Tensor, draws: int) -> np.ndarray:
    """(S, N, ...) -> (S, N, D)."""
    return values.reshape(draws, values.shape[1], -1).double().cpu().numpy()


def _covered(ours: np.ndarray, theirs: np.ndarray, level: float) -> np.ndarray:
    """Share of their draws within our central interval, (N, D)."""
    low, high = np.quantile(ours, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return ((theirs > low) & (theirs < high)).mean(0)


def _diagnosed(what: str, draws: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on import, ArviZ 0.x announces 1.x
        import arviz

        return getattr(arviz, what)(arviz.convert_to_dataset({"z": draws}))["z"].values
