r"""Latent diffusion: a generator of a guide's latent states, fitted to draws of its posteriors.

    z ~ q(z | x_n)                 a new draw of every cell each epoch, not its mean
    x_0 = (z - mean) / scale       diffused, given c or not

Rombach et al., CVPR 2022, https://arxiv.org/abs/2112.10752
"""

from __future__ import annotations

from typing import ClassVar, TypedDict, Unpack

from torch import Tensor

from ..nn import FiLMNetwork, StateGenerator
from .denoise import Denoiser
from .guidance import guided
from .noise import EDM, Noise
from .sample import Sampler, dpm_solver_pp_2m, log_prob


class DensityOptions(TypedDict, total=False):
    """Options of `sample.log_prob`."""

    tolerance: float
    exact: int
    probes: int


class LatentDiffusion(StateGenerator):
    """A generator of states by diffusion, with guidance and a density.

    Trained by denoising score matching, for 4000 steps by default. Without conditions in a call,
    states are those of the training mixture.

    Parameters
    ----------
    size
        Dimensions D of a state.
    conditions
        Number of encoded conditions C; 0 for none.
    hidden, layers
        Width and number of blocks of the denoiser's `FiLMNetwork`.
    dropout
        Share of conditions that training drops.
    noise
        Schedule; `EDM(least=0.01)` by default, on whose grid DPM-Solver++(2M) needs about 20
        steps.

    References
    ----------
    Karras et al., NeurIPS 2022, https://arxiv.org/abs/2206.00364
    Rombach et al., CVPR 2022, https://arxiv.org/abs/2112.10752

    Examples
    --------
    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> diffusion = LatentDiffusion(size=2, conditions=1, hidden=8)
    >>> losses = list(diffusion.fit(lambda: 5 + torch.randn(64, 2), torch.ones(64, 1), steps=3))
    >>> diffusion.sample(4, torch.ones(4, 1), guidance=1.5).shape, diffusion.sample(4).shape
    (torch.Size([4, 2]), torch.Size([4, 2]))
    """

    default_steps: ClassVar[int] = 4000

    def __init__(
        self,
        size: int,
        conditions: int = 0,
        *,
        hidden: int = 128,
        layers: int = 3,
        dropout: float = 0.1,
        noise: Noise | None = None,
    ) -> None:
        super().__init__(size, conditions)
        network = FiLMNetwork(size, conditions, hidden, layers)
        self.denoise = Denoiser(network, noise or EDM(least=0.01), dropout=dropout)

    def loss(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """The denoising loss, (N,), of standardised states x (N, D), at one random time each."""
        return self.denoise.loss(x, c)

    def sample(
        self,
        n: int,
        condition: Tensor | None = None,
        *,
        steps: int = 20,
        guidance: float = 1.0,
        sampler: Sampler = dpm_solver_pp_2m,
    ) -> Tensor:
        """Draw states.

        Parameters
        ----------
        n
            Number of states.
        condition
            Conditions (n, C), row i for state i; None draws from the training mixture.
        steps
            Steps of the sampler.
        guidance
            Weight w: 0 is unconditional, 1 the condition; more exaggerates it.
        sampler
            A sampler of `diffusion.sample`.

        Returns
        -------
        Tensor
            States (n, D).
        """
        start = self.denoise.noise.start(n, self.size).to(self.mean)
        denoise = guided(self.denoise, condition, guidance)
        return self.mean + self.scale * sampler(denoise, self.denoise.noise, start, steps)

    def log_prob(
        self, z: Tensor, condition: Tensor | None = None, **options: Unpack[DensityOptions]
    ) -> Tensor:
        """log p(z | c), (N,), of states z (N, D), by the probability flow.

        Parameters
        ----------
        z, condition
            States and their conditions (N, C).
        **options
            tolerance, exact and probes of `diffusion.log_prob`.
        """
        x, denoise = (z - self.mean) / self.scale, guided(self.denoise, condition)
        return log_prob(denoise, self.denoise.noise, x, **options) - self.scale.log().sum()
