"""Is the latent space in use? Every fit is asked, and a collapsed one says so loudly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from .noise import seeded
from .objective import Objective

ACTIVE = 0.01  # variance over cells of a dimension's posterior mean, Burda et al. 2016
MINIMUM_KL = 2.0  # nats a cell
SEED = 1  # where the KL is estimated by draws, the same draws for every run


class PosteriorCollapse(UserWarning):
    """The guide ignores the cells: latent codes carry next to no information."""


class LatentUse(NamedTuple):
    """What the latent dimensions carry over a set of cells."""

    loc: Tensor  # (N, D) posterior means of all sites but the model's `nuisance`
    kl: Tensor  # (D,) mean KL(q || p) in nats; one entry a site where no closed form exists

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
        locs, kls = zip(*(_batch_use(objective, batch) for batch in batches), strict=True)
    objective.train(training)
    sizes = torch.tensor([float(len(loc)) for loc in locs], device=kls[0].device)
    weights = (sizes / sizes.sum()).unsqueeze(-1)
    return LatentUse(torch.cat(locs), (torch.stack(kls) * weights).sum(0))


def mean(posterior: TorchDistribution, draws: int = 200) -> Tensor:
    """The mean of a posterior, of `draws` draws where it has no closed form, as in a flow."""
    try:
        return posterior.mean
    except NotImplementedError:
        return posterior.sample((draws,)).mean(0)


def _batch_use(objective: Objective, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    draw = objective.draw(batch)
    nuisance = getattr(objective.model, "nuisance", ())
    sites = [site for site, _ in draw.latents if site["name"] not in nuisance]
    means = [mean(site["fn"]) for site in sites]
    loc = torch.cat([m[0] if objective.particles > 1 else m for m in means], -1)
    return loc, torch.cat([cost.mean((0, 1)) for cost in objective.costs(draw)])
