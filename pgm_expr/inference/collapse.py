"""Is the latent space in use? Every fit is asked, and a collapsed one says so loudly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from .objective import Objective
from .rng import seeded

ACTIVE = 0.01  # variance over cells of a dimension's posterior mean, Burda et al. 2016
MINIMUM_KL = 2.0  # nats a cell
SEED = 1  # where the KL is estimated by draws, the same draws for every run


class PosteriorCollapse(UserWarning):
    """The guide ignores the cells: latent codes carry next to no information."""


class LatentUse(NamedTuple):
    """What the latent dimensions carry over a set of cells, by site; not the `nuisance` ones."""

    locs: dict[str, Tensor]  # (N, D) posterior means of each continuous site
    kls: dict[str, Tensor]  # (D,) mean KL(q || p) in nats; one entry where no closed form exists

    @property
    def loc(self) -> Tensor:
        """Posterior means of all sites side by side, (N, D)."""
        return torch.cat([*self.locs.values()], -1)

    @property
    def kl(self) -> Tensor:
        """Mean KL of all sites, one after the other."""
        return torch.cat([*self.kls.values()])

    @property
    def active_units(self) -> int:
        """Dimensions whose posterior mean varies over cells by more than .01."""
        return int((self.loc.var(0) > ACTIVE).sum())

    def verdict(self) -> str | None:
        """One sentence on a collapsed latent space, None where it is in use."""
        nats = self.kl.sum().item()
        if nats >= MINIMUM_KL and self.active_units:
            return None
        return (
            f"posterior collapse: KL is {nats:.2f} nats a cell (at least {MINIMUM_KL:g} wanted) "
            f"with {self.active_units} of {self.loc.shape[1]} latent dimensions in use. Lower "
            "beta, warm up for longer, set free bits, or narrow the decoder."
        )


@torch.no_grad()
def latent_use(objective: Objective, batches: Iterable[Mapping[str, Tensor]]) -> LatentUse:
    """Posterior means and KL of all latent sites over some batches, in evaluation mode."""
    training = objective.training
    objective.eval()
    with seeded(SEED):
        uses = [_batch_use(objective, batch) for batch in batches]
    objective.train(training)
    locs = {name: torch.cat([use.locs[name] for use in uses]) for name in uses[0].locs}
    sizes = torch.tensor([float(len(use.loc)) for use in uses], device=uses[0].kl.device)
    weights = (sizes / sizes.sum()).unsqueeze(-1)
    kls = {n: (torch.stack([use.kls[n] for use in uses]) * weights).sum(0) for n in uses[0].kls}
    return LatentUse(locs, kls)


def mean(posterior: TorchDistribution, draws: int = 200) -> Tensor:
    """The mean of a posterior, of `draws` draws where it has no closed form, as in a flow."""
    try:
        return posterior.mean
    except NotImplementedError:
        return posterior.sample((draws,)).mean(0)


def _batch_use(objective: Objective, batch: Mapping[str, Tensor]) -> LatentUse:
    draw = objective.draw(batch)
    nuisance = getattr(objective.model, "nuisance", ())
    sites = [site for site, _ in draw.latents]
    costs = {
        site["name"]: draw.expected(cost, 3).mean((0, 1))
        for site, cost in zip(sites, objective.costs(draw), strict=True)
    }
    locs = {
        site["name"]: draw.expected(objective.rows(mean(site["fn"]), 1), 3)[0]
        for site in sites
        if not site["fn"].support.is_discrete and site["name"] not in nuisance
    }
    return LatentUse(locs, costs)
