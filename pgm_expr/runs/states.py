r"""From cells to the states that a generator learns, and from its states back to counts.

    s_n = [ latents of cell n, drawn from q( . | x_n);  log library_n ]      (D,), unconstrained
    x   ~ p(x | latents, library, ...)                                       integers

The library is part of the state, so generated cells have depths that go with what they are. A
story that infers the library has it among its latents already. Sites that all cells share are held
at one draw of the guide, which is kept with the generator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import biject_to

from ..inference import call
from ..inference.tracing import Batch, Site, sample_sites, trace, within_cells

LIBRARY = "log_library"


@dataclass(frozen=True)
class States:
    """Which site of a story takes which columns of a state: widths by name, in order."""

    widths: dict[str, int]
    shared: dict[str, Tensor]  # values of sites that all cells share

    @classmethod
    def of(cls, model: nn.Module, guide: nn.Module, batch: Batch) -> States:
        """Read off one minibatch. ValueError for a discrete latent of a cell."""
        with torch.no_grad():
            sites = [*sample_sites(trace(guide, batch))]
        own = {s["name"]: s for s in sites if within_cells(s)}
        for name, site in own.items():
            if site["fn"].support.is_discrete:
                raise ValueError(
                    f"{type(model).__name__} has a discrete latent, '{name}', and generators "
                    "learn continuous states. Draw from the prior of the story."
                )
        widths = {
            n: s["value"].reshape(len(batch["library"]), -1).shape[1] for n, s in own.items()
        }
        shared = {s["name"]: s["value"].detach() for s in sites if not within_cells(s)}
        return cls(widths | ({} if LIBRARY in widths else {LIBRARY: 1}), shared)

    @property
    def size(self) -> int:
        """D, the library among them."""
        return sum(self.widths.values())

    def library(self, states: Tensor) -> Tensor:
        """The libraries (N,) of states (N, D)."""
        return self._parts(states)[LIBRARY].exp().squeeze(-1)

    def at_library(self, states: Tensor, library: Tensor) -> Tensor:
        """The same states (N, D) at other libraries (N,)."""
        parts = self._parts(states) | {LIBRARY: library.log().unsqueeze(-1)}
        return torch.cat([*parts.values()], -1)

    def _parts(self, states: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.widths, states.split([*self.widths.values()], -1), strict=True))

    @torch.no_grad()
    def draw(self, guide: nn.Module, batches: Iterable[Batch]) -> Tensor:
        """A new draw of the states of all cells, (N, D)."""
        return torch.cat([self._drawn(guide, batch) for batch in batches])

    def _drawn(self, guide: nn.Module, batch: Batch) -> Tensor:
        nodes = trace(guide, batch).nodes
        columns = [_free(nodes[n]) if n in nodes else batch["library"].log() for n in self.widths]
        return torch.cat(columns, -1)

    @torch.no_grad()
    def decode(self, model: nn.Module, states: Tensor, covariates: Batch) -> Tensor:
        """Counts (N, G) of cells with these states (N, D) and encoded covariates."""
        model.eval()
        parts = self._parts(states)
        batch = {**covariates, "library": parts[LIBRARY].exp()}
        values = {**self.shared, **self._constrained(model, batch, parts)}
        with poutine.condition(data=values):
            return call(model, batch)

    def _constrained(self, model: nn.Module, batch: Batch, parts: Mapping[str, Tensor]) -> dict:
        """Values of the story's own sites from their unconstrained columns."""
        drawn = trace(model, batch)
        found = {}
        for name, columns in parts.items():
            if name in drawn.nodes:
                site = cast(Site, drawn.nodes[name])
                found[name] = biject_to(site["fn"].support)(columns).reshape(site["value"].shape)
        return found


def _free(site: Mapping) -> Tensor:
    """A site's value without constraint, (N, D)."""
    return biject_to(site["fn"].support).inv(site["value"]).flatten(1)
