"""Priors p(z): modules whose call returns the distribution of a latent vector."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..distributions.flow import Flow
from ..nn import near_identity, spline_map

ONE = math.log(math.expm1(1 - 1e-3))  # softplus(ONE) + 1e-3 = 1
LOG_SCALE = math.log(50)  # bound of a learned conditional log scale


class StandardNormal(nn.Module):
    """p(z) = Normal(0, I).

    Called without arguments, returns a distribution of event shape (D,).

    Parameters
    ----------
    latent
        Latent dimensions D.

    Examples
    --------
    >>> StandardNormal(latent=3)().event_shape
    torch.Size([3])
    """

    origin: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("origin", torch.zeros(latent))  # follows .to(device)

    def forward(self) -> dist.TorchDistribution:
        return dist.Normal(self.origin, torch.ones_like(self.origin)).to_event(1)


class WideNormal(nn.Module):
    """p(z) = Normal(0, width^2 I).

    Called without arguments, returns a distribution of event shape (D,).

    Parameters
    ----------
    latent
        Latent dimensions D.
    width
        Standard deviation.

    Examples
    --------
    >>> WideNormal(latent=2, width=3.0)().stddev
    tensor([3., 3.])
    """

    origin: Tensor

    def __init__(self, latent: int, width: float = 3.0) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("origin", torch.zeros(latent))

    def forward(self) -> dist.TorchDistribution:
        return dist.Normal(self.origin, torch.full_like(self.origin, self.width)).to_event(1)


class MixtureOfNormals(nn.Module):
    """p(z) = sum_m weight_m Normal(loc_m, scale_m^2), all learned.

    Modes start at draws of Normal(0, I) with scale 1; scales stay above 1e-3. Called without
    arguments, returns a distribution of event shape (D,).

    Parameters
    ----------
    latent
        Latent dimensions D.
    components
        Number of modes.

    Examples
    --------
    >>> prior = MixtureOfNormals(latent=3, components=5)
    >>> prior().sample((7,)).shape, prior.loc.shape
    (torch.Size([7, 3]), torch.Size([5, 3]))
    """

    def __init__(self, latent: int, components: int = 20) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(torch.randn(components, latent))
        self.raw_scale = nn.Parameter(torch.full((components, latent), ONE))

    def forward(self) -> dist.TorchDistribution:
        return _weighed(self.logits, self.loc, self.raw_scale)


class ConditionalMixture(nn.Module):
    """p(z | c) = sum_m weight_m(c) Normal(loc_m, scale_m^2): conditions reweight the same M modes.

    A mode is the same state under every condition; c sets how frequent it is, with effects that
    add up on log weights. Called with c (N, C), returns a distribution of batch shape (N,) and
    event shape (D,).

    Parameters
    ----------
    features
        Number of encoded conditions C.
    latent
        Latent dimensions D.
    modes
        Number of modes M.

    Examples
    --------
    >>> import torch
    >>> ConditionalMixture(features=2, latent=3)(torch.eye(2)).sample().shape
    torch.Size([2, 3])
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
    """p(z | y) = sum_m weight_ym Normal(loc_m, scale_m^2): labels y reweight the same M modes.

    Cells of all labels shape the modes, so that a label with few annotated cells does not shrink
    to a mode of those few. Starts like `MixtureOfNormals`. Called with y (...) int64, returns a
    distribution of batch shape (...) and event shape (D,).

    Parameters
    ----------
    labels
        Number of labels.
    latent
        Latent dimensions D.
    modes
        Number of modes M.

    Examples
    --------
    >>> import torch
    >>> KindsOfNormals(labels=4, latent=3)(torch.tensor([0, 3])).sample().shape
    torch.Size([2, 3])
    """

    def __init__(self, labels: int, latent: int, modes: int = 20) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(labels, modes))
        self.loc = nn.Parameter(torch.randn(modes, latent))
        self.raw_scale = nn.Parameter(torch.full((modes, latent), ONE))

    def forward(self, y: Tensor) -> dist.TorchDistribution:
        return _weighed(self.logits[y], self.loc, self.raw_scale)


def _weighed(logits: Tensor, loc: Tensor, raw_scale: Tensor) -> dist.TorchDistribution:
    """The mixture of M diagonal normals (M, D) with log weights (..., M)."""
    normals = dist.Normal(loc, softplus(raw_scale) + 1e-3).to_event(1)
    return dist.MixtureSameFamily(dist.Categorical(logits=logits), normals.expand(logits.shape))


class VampPrior(nn.Module):
    """p(z) = sum_k weight_k q(z | u_k): the guide's posterior at K learned pseudo-cells u_k.

    The pseudo-cells are log(1 + counts), kept positive as |raw|, whose gradient does not vanish.
    Called without arguments, returns a distribution of event shape (D,).

    The guide's weights are trained through the prior but are not among the prior's parameters:
    move guide and model to another device together, and copy them together.

    Parameters
    ----------
    genes
        Number of modelled genes G.
    guide
        A guide with q(z | x) = posterior(encode(log1p(x))).
    average
        Composition of the average cell, (G,), near which pseudo-cells start without `examples`.
    examples
        Counts of some cells, (M, G); pseudo-cells start at K of them, evenly spaced.
    pseudo_inputs
        Number of pseudo-cells K.

    Raises
    ------
    ValueError
        If the guide has no `encode` and `posterior`, or encodes more than the counts, or if
        `examples` have other genes.

    References
    ----------
    Tomczak and Welling, AISTATS 2018, https://arxiv.org/abs/1705.07120

    Examples
    --------
    >>> from pgm_expr.guides import VAEGuide
    >>> prior = VampPrior(genes=5, guide=VAEGuide(genes=5, latent=2), pseudo_inputs=10)
    >>> prior().sample((7,)).shape, prior.cells.shape
    (torch.Size([7, 2]), torch.Size([10, 5]))
    """

    _borrowed: tuple[Any]

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
        start = _from_average(genes, average, pseudo_inputs)
        if examples is not None:
            start = _from_examples(genes, examples, pseudo_inputs)
        self.raw_cells = nn.Parameter(start)  # (K, G)

    @property
    def cells(self) -> Tensor:
        """The pseudo-cells, (K, G), as log(1 + counts)."""
        return self.raw_cells.abs()

    def forward(self) -> dist.TorchDistribution:
        (guide,) = self._borrowed
        components = guide.posterior(guide.encode(self.cells))  # (K,), (D,)
        return dist.MixtureSameFamily(dist.Categorical(logits=self.logits), components)


def _check_borrowed(guide: Any, genes: int) -> None:
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
            f"inputs for {genes} genes), but pseudo-cells have counts only. Choose another prior."
        )


def _from_examples(genes: int, examples: Tensor, number: int) -> Tensor:
    """log(1 + counts) of real cells, plus a little, since |raw| has no gradient at 0."""
    if examples.shape[-1] != genes:
        raise ValueError(
            f"VampPrior, argument examples: shape {tuple(examples.shape)} where {genes} genes are "
            "modelled. Pass counts of the modelled genes only."
        )
    rows = torch.arange(number, device=examples.device) * max(1, len(examples) // number)
    return examples[rows % len(examples)].log1p() + 0.01


def _from_average(genes: int, average: Tensor | None, number: int) -> Tensor:
    composition = torch.full((genes,), 1 / genes) if average is None else average
    noise = torch.randn(number, genes, device=composition.device).exp()
    return (genes * composition * noise).log1p() + 0.01


class FlowPrior(nn.Module):
    """p(z) by a masked autoregressive flow of splines.

    Densities take one pass, draws take D. It starts near Normal(0, I); the map is the identity
    outside [-5, 5], so that the tails stay those of a normal. Called without arguments, returns a
    distribution of event shape (D,).

    Parameters
    ----------
    latent
        Latent dimensions D.
    transforms
        Number of composed spline maps.
    flow_hidden
        Width of each map's network.

    References
    ----------
    Papamakarios et al., NeurIPS 2017, https://arxiv.org/abs/1705.07057
    Durkan et al., NeurIPS 2019, https://arxiv.org/abs/1906.04032

    Examples
    --------
    >>> prior = FlowPrior(latent=3)()
    >>> prior.log_prob(prior.sample((7,))).shape
    torch.Size([7])
    """

    def __init__(self, latent: int, transforms: int = 3, flow_hidden: int = 32) -> None:
        super().__init__()
        self.base = StandardNormal(latent)
        self.flow = near_identity(spline_map(latent, transforms=transforms, hidden=flow_hidden))

    def forward(self) -> dist.TorchDistribution:
        return Flow(self.base(), pull=self.flow())
