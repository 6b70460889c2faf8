"""Use of the latent space: posterior means, KL and active units; every fit warns of collapse."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from .objective import Objective
from .rng import VALIDATION_SEED, seeded
from .tracing import Batch

ACTIVE = 0.01  # variance over cells of a dimension's posterior mean, Burda et al. 2016
MINIMUM_KL = 2.0  # nats a cell


class PosteriorCollapse(UserWarning):
    """The guide ignores the counts: latent codes contain almost no information about cells."""


class LatentUse(NamedTuple):
    """Information in the latent dimensions over a set of cells, by site.

    Sites that the model lists as `nuisance` have a KL but no location. A story of profiles, which
    has no latent state of cells, has neither.

    Attributes
    ----------
    locs
        Posterior means (N, D) of each continuous site.
    kls
        Mean KL(q || p) of each dimension of a site, (D,), in nats per cell; of one entry where no
        closed form exists.

    Examples
    --------
    >>> import torch
    >>> locs, kls = torch.tensor([[0.0, 5.0], [2.0, 5.0]]), torch.tensor([3.0, 0.0])
    >>> use = LatentUse({"z": locs}, {"z": kls})
    >>> use.active_units  # the second dimension is constant
    1
    >>> use.verdict() is None
    True
    """

    locs: dict[str, Tensor]  # (N, D) posterior means of each continuous site
    kls: dict[str, Tensor]  # (D,) mean KL(q || p) in nats; one entry where no closed form exists

    @property
    def loc(self) -> Tensor:
        """Posterior means of all sites, concatenated, (N, D); (0, 0) without any."""
        return torch.cat([*self.locs.values()], -1) if self.locs else torch.empty(0, 0)

    @property
    def kl(self) -> Tensor:
        """Mean KL of the dimensions of all sites, concatenated."""
        return torch.cat([*self.kls.values()]) if self.kls else torch.empty(0)

    @property
    def active_units(self) -> int:
        """Number of dimensions whose posterior mean has a variance over cells above 0.01."""
        return int((self.loc.var(0) > ACTIVE).sum()) if self.locs else 0

    def verdict(self) -> str | None:
        """A sentence on a collapsed latent space, None where it is in use or there is none."""
        nats = self.kl.sum().item()
        if not self.locs or (nats >= MINIMUM_KL and self.active_units):
            return None
        return (
            f"posterior collapse: KL is {nats:.2f} nats a cell (expected at least {MINIMUM_KL:g}) "
            f"with {self.active_units} of {self.loc.shape[1]} latent dimensions in use. Lower "
            "beta, warm up for longer, set free bits, or narrow the decoder."
        )


@torch.no_grad()
def latent_use(objective: Objective, batches: Iterable[Batch]) -> LatentUse:
    """Posterior means and KL of all latent sites over some cells, in evaluation mode.

    Parameters
    ----------
    objective
        Any objective; its `costs` decide whether a KL is in closed form or sampled.
    batches
        Minibatches of the cells.

    Returns
    -------
    LatentUse
        Means and KL by site.

    References
    ----------
    Burda et al., ICLR 2016, https://arxiv.org/abs/1509.00519 (active units)

    Examples
    --------
    >>> import torch
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.inference import ELBO
    >>> from pgm_expr.models import VAE
    >>> objective = ELBO(VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2), cells=8)
    >>> use = latent_use(objective, [{"x": torch.ones(8, 5), "library": torch.full((8, 1), 5.0)}])
    >>> use.loc.shape, use.kl.shape
    (torch.Size([8, 2]), torch.Size([2]))
    """
    training = objective.training
    objective.eval()
    with seeded(VALIDATION_SEED):
        each = [(len(batch["library"]), _batch_use(objective, batch)) for batch in batches]
    objective.train(training)
    uses = [use for _, use in each]
    locs = {name: torch.cat([use.locs[name] for use in uses]) for name in uses[0].locs}
    sizes = torch.tensor([float(cells) for cells, _ in each], device=objective.cells.device)
    weights = (sizes / sizes.sum()).unsqueeze(-1)
    kls = {n: (torch.stack([use.kls[n] for use in uses]) * weights).sum(0) for n in uses[0].kls}
    return LatentUse(locs, kls)


def mean(posterior: TorchDistribution, draws: int = 200) -> Tensor:
    """The mean of a posterior, over `draws` draws where it has no closed form, as in a flow."""
    try:
        return posterior.mean
    except NotImplementedError:
        return posterior.sample((draws,)).mean(0)


def _batch_use(objective: Objective, batch: Batch) -> LatentUse:
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
