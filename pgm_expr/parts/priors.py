"""Priors p(z): modules whose call returns the distribution of a latent vector."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..distributions.flow import Flow
from ..nn import near_identity, spline_map

ONE = math.log(math.expm1(1 - 1e-3))  # softplus(ONE) + 1e-3 = 1
LOG_SCALE = math.log(50)  # how far a learned conditional scale may lie from 1


class StandardNormal(nn.Module):
    """p(z) = Normal(0, I): call() -> event shape (D,)."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("origin", torch.zeros(latent))  # follows .to(device)

    def forward(self) -> dist.TorchDistribution:
        return dist.Normal(self.origin, torch.ones_like(self.origin)).to_event(1)


class WideNormal(nn.Module):
    """p(z) = Normal(0, width^2 I), `width` a standard deviation: call() -> event shape (D,)."""

    def __init__(self, latent: int, width: float = 3.0) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("origin", torch.zeros(latent))

    def forward(self) -> dist.TorchDistribution:
        return dist.Normal(self.origin, torch.full_like(self.origin, self.width)).to_event(1)


class MixtureOfNormals(nn.Module):
    """p(z) = sum_m weight_m Normal(loc_m, scale_m^2), all learned: call() -> event shape (D,).

    Modes start at draws of Normal(0, I) with scale 1; scales stay above 1e-3.
    """

    def __init__(self, latent: int, components: int = 20) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(torch.randn(components, latent))
        self.raw_scale = nn.Parameter(torch.full((components, latent), ONE))

    def forward(self) -> dist.TorchDistribution:
        return _weighed(self.logits, self.loc, self.raw_scale)


class ConditionalMixture(nn.Module):
    """p(z | c) = sum_m weight_m(c) Normal(loc_m, scale_m^2): conditions weigh the same M modes.

    call(c (N, C)) -> batch shape (N,), event shape (D,). Effects of c add up on log weights, and
    a mode is the same state under every condition: what is told says how common it is.
    """

    def __init__(self, features: int, latent: int, modes: int = 20) -> None:
        super().__init__()
        self.logits = nn.Linear(features, modes)
        self.logits.weight.data *= 0.1
        self.logits.bias.data.zero_()
        self.loc = nn.Parameter(torch.randn(modes, latent))
        self.raw_scale = nn.Parameter(torch.full((modes, latent), ONE))

    def forward(self, c: Tensor) -> dist.TorchDistribution:
        return _weighed(self.logits(c), self.loc, self.raw_scale)


def bounded(log_scale: Tensor) -> Tensor:
    """A scale within a factor of 50 of 1."""
    return (LOG_SCALE * torch.tanh(log_scale / LOG_SCALE)).exp()


class KindsOfNormals(nn.Module):
    """p(z | y) = sum_m weight_ym Normal(loc_m, scale_m^2): kinds y weigh the same M modes.

    call(y (...,) int64) -> batch shape (...,), event shape (D,). Cells of all kinds shape the
    modes, so that a kind of few labels is no cloud of its own around those few. Starts like
    `MixtureOfNormals`.
    """

    def __init__(self, labels: int, latent: int, modes: int = 20) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(labels, modes))
        self.loc = nn.Parameter(torch.randn(modes, latent))
        self.raw_scale = nn.Parameter(torch.full((modes, latent), ONE))

    def forward(self, y: Tensor) -> dist.TorchDistribution:
        return _weighed(self.logits[y], self.loc, self.raw_scale)


def _weighed(logits: Tensor, loc: Tensor, raw_scale: Tensor) -> dist.TorchDistribution:
    """The mixture of M diagonal normals (M, D) that log weights (..., M) ask for."""
    normals = dist.Normal(loc, softplus(raw_scale) + 1e-3).to_event(1)
    return dist.MixtureSameFamily(dist.Categorical(logits=logits), normals.expand(logits.shape))


class VampPrior(nn.Module):
    """p(z) = sum_k weight_k q(z | u_k): the guide's own posterior at K learned pseudo-cells u_k.

    call() -> event shape (D,). The pseudo-cells are log(1 + counts), kept above zero as |raw|,
    whose slope never dies. They start as the counts of `examples` (M, G), evenly spaced
    among them, or without examples near the composition `average` (G,) of the average cell.

    The guide is borrowed: its weights are trained through the prior but are not among the
    prior's parameters, so move it to another device along with the model, and copy both at once.

    Tomczak and Welling, AISTATS 2018, https://arxiv.org/abs/1705.07120
    """

    def __init__(
        self,
        genes: int,
        guide: nn.Module,
        average: Tensor | None = None,
        examples: Tensor | None = None,
        pseudo_inputs: int = 50,
    ) -> None:
        super().__init__()
        _check_borrowed(guide, genes)
        self._borrowed = (guide,)
        self.logits = nn.Parameter(torch.zeros(pseudo_inputs))
        start = _invented(genes, average, pseudo_inputs)
        if examples is not None:
            start = _chosen(genes, examples, pseudo_inputs)
        self.raw_cells = nn.Parameter(start)  # (K, G)

    @property
    def cells(self) -> Tensor:
        """The pseudo-cells, (K, G), as log(1 + counts)."""
        return self.raw_cells.abs()

    def forward(self) -> dist.TorchDistribution:
        (guide,) = self._borrowed
        components = guide.posterior(guide.encode(self.cells))  # (K,), (D,)
        return dist.MixtureSameFamily(dist.Categorical(logits=self.logits), components)


def _check_borrowed(guide: nn.Module, genes: int) -> None:
    missing = " and no ".join(n for n in ("encode", "posterior") if not hasattr(guide, n))
    if missing:
        raise ValueError(
            f"VampPrior, argument guide: {type(guide).__name__} has no {missing}. "
            "Pass a guide whose q(z | x) is posterior(encode(log1p(x))), such as VAEGuide."
        )
    first = next(layer for layer in guide.encode.modules() if isinstance(layer, nn.Linear))
    if first.in_features != genes:
        raise ValueError(
            f"VampPrior: {type(guide).__name__} encodes more than counts ({first.in_features} "
            f"inputs for {genes} genes), and a pseudo-cell has nothing else. Choose another prior."
        )


def _chosen(genes: int, examples: Tensor, number: int) -> Tensor:
    """log(1 + counts) of real cells; a little above zero, where |raw| has no slope."""
    if examples.shape[-1] != genes:
        raise ValueError(
            f"VampPrior, argument examples: shape {tuple(examples.shape)} where {genes} genes are "
            "modelled. Pass counts of the modelled genes only."
        )
    rows = torch.arange(number, device=examples.device) * max(1, len(examples) // number)
    return examples[rows % len(examples)].log1p() + 0.01


def _invented(genes: int, average: Tensor | None, number: int) -> Tensor:
    composition = torch.full((genes,), 1 / genes) if average is None else average
    noise = torch.randn(number, genes, device=composition.device).exp()
    return (genes * composition * noise).log1p() + 0.01


class FlowPrior(nn.Module):
    """p(z) by a masked autoregressive flow of splines: call() -> event shape (D,).

    Densities take one pass, draws D passes. Starts near Normal(0, I); a value outside [-5, 5]
    goes through unchanged, so the tails stay those of a normal.

    Papamakarios et al., NeurIPS 2017, https://arxiv.org/abs/1705.07057
    Durkan et al., NeurIPS 2019, https://arxiv.org/abs/1906.04032
    """

    def __init__(self, latent: int, transforms: int = 3, flow_hidden: int = 32) -> None:
        super().__init__()
        self.base = StandardNormal(latent)
        self.flow = near_identity(spline_map(latent, transforms=transforms, hidden=flow_hidden))

    def forward(self) -> dist.TorchDistribution:
        return Flow(self.base(), pull=self.flow())
