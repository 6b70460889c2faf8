r"""A reference posterior of a few cells by NUTS: the judge of a guide, whatever its family.

    z_n ~ p(z | x_n, theta)   by Hamiltonian Monte Carlo, theta the fitted model's, held

    shift      (E_q[z] - E[z]) / sd[z]                0 for the exact posterior, by dimension
    width      sd_q[z] / sd[z]                        1; below 1 the guide is too sure
    coverage   share of the reference's draws in the guide's central 50 and 90% intervals

The chains are copies of each cell in one minibatch: given theta, posteriors of cells know nothing
of each other, so one trajectory moves all of them, from places that the guide draws. R-hat and the
effective sample size of every dimension are ArviZ's; where R-hat is high (modes that chains do
not leave) there is no reference, and `agreement` leaves these dimensions out and counts them.

Sites that all cells share are drawn once from the guide and held, as in `refine`.

Hoffman and Gelman, JMLR 2014, https://jmlr.org/papers/v15/hoffman14a.html
Vehtari et al., Bayesian Analysis 2021, https://doi.org/10.1214/20-BA1221
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

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
from .refine import cell_sites, evaluating, shared_sites

MIXED = 1.05  # R-hat up to which chains agree
INTERVALS = (0.5, 0.9)
DEPTH = 7  # of the tree: up to 127 steps a draw
ACCEPT = 0.8


@dataclass(frozen=True)
class Reference:
    """Draws of the posteriors of N cells, latents side by side, and those of `shared` sites."""

    draws: np.ndarray  # (chains, S, N, D)
    names: list[str]  # of the D dimensions
    shared: Trace

    @property
    def rhat(self) -> np.ndarray:
        """Of each cell and dimension, (N, D): 1 where chains agree."""
        return _diagnosed("rhat", self.draws)

    @property
    def ess(self) -> np.ndarray:
        """Effective number of draws (bulk) of each cell and dimension, (N, D)."""
        return _diagnosed("ess", self.draws)


class Agreement(NamedTuple):
    """A guide beside the reference, over the pairs of cell and dimension that mixed."""

    shift: np.ndarray  # (M,) of M pairs, in posterior standard deviations
    width: np.ndarray  # (M,)
    coverage: dict[float, float]  # of central intervals, by nominal probability
    mixed: float  # share of pairs whose R-hat is at most 1.05


def reference(
    model: nn.Module,
    guide: nn.Module,
    batch: Batch,
    *,
    draws: int = 500,
    warmup: int = 300,
    chains: int = 4,
) -> Reference:
    """Posteriors of the few cells of a minibatch: `chains` x `draws` of them by NUTS.

    Time grows with cells and `draws`: some minutes for ten cells of a story of 2,000 genes. Noise
    is seeded. `DiscreteLatent` (a ValueError) where a cell has a discrete latent.
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
            _joint(model, many, held),
            max_tree_depth=DEPTH,
            target_accept_prob=ACCEPT,
            transforms=free,  # the guide's: Pyro knows none of a mixture's support
            init_strategy=init_to_value(values={n: s["value"] for n, s in sites.items()}),
        )
        sampler = MCMC(kernel, draws, warmup, initial_params=start, disable_progbar=True)
        sampler.run()
    parts = {n: _by_chain(v, chains) for n, v in sampler.get_samples().items() if n in sites}
    names = [f"{n}[{d}]" for n, part in parts.items() for d in range(part.shape[-1])]
    return Reference(np.concatenate([*parts.values()], -1), names, shared)


def agreement(found: Reference, guide: nn.Module, batch: Batch, draws: int = 2000) -> Agreement:
    """A guide's posteriors of the same cells against the reference's.

    ValueError where no dimension of any cell mixed.
    """
    mixed = found.rhat <= MIXED
    if not mixed.any():
        raise ValueError(
            f"NUTS has not converged for any of {mixed.size} cells x dimensions (R-hat above "
            f"{MIXED}). Take more draws."
        )
    with evaluating(guide), seeded(SEED), torch.no_grad(), poutine.replay(trace=found.shared):
        guided = trace(guide, batch, draws)
    names = dict.fromkeys(name.split("[")[0] for name in found.names)
    ours = np.concatenate([_flat(guided.nodes[name]["value"], draws) for name in names], -1)
    theirs = found.draws.reshape(-1, *found.draws.shape[2:])  # (chains S, N, D)
    sd = theirs.std(0)
    covered = {level: float(_covered(ours, theirs, level)[mixed].mean()) for level in INTERVALS}
    shift, width = (ours.mean(0) - theirs.mean(0)) / sd, ours.std(0) / sd
    return Agreement(shift[mixed], width[mixed], covered, float(mixed.mean()))


def _joint(model: nn.Module, batch: Batch, held: Mapping[str, Tensor]) -> poutine.Messenger:
    return poutine.condition(lambda: call(model, batch), data=held)


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
        warnings.simplefilter("ignore")  # ArviZ announces its next version
        import arviz

        return getattr(arviz, what)(arviz.convert_to_dataset({"z": draws}))["z"].values
