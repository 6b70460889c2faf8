r"""A generator: diffusion of the states that a guide finds, learnt from its posterior.

z ~ q(z | x_n)                 a new draw of every cell each epoch, not its mean
x_0 = (z - mean) / scale       diffused, given c or not; the way back is exact
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..nn import FiLMNetwork, learn_standardised
from ..nn.learn import Draw
from .denoise import Denoiser
from .guidance import guided
from .noise import EDM, Noise
from .sample import Sampler, dpm_solver_pp_2m, log_prob


class LatentDiffusion(nn.Module):
    """States z (N, D), under conditions (N, C) where it has any.

    `noise` and `denoise` can be any of this folder; EDM's are the defaults, and its grid with
    DPM-Solver++(2M) needs about 20 steps.
    """

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
        super().__init__()
        self.size, self.conditions = size, conditions
        network = FiLMNetwork(size, conditions, hidden, layers)
        self.denoise = Denoiser(network, noise or EDM(least=0.01), dropout=dropout)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def fit(
        self,
        posterior: Draw,
        condition: Tensor | None = None,
        *,
        steps: int = 4000,
        seed: int = 0,
        **learning: float,
    ) -> Iterator[float]:
        """Train in place on draws (N, D) of `posterior()`; yields the mean loss of each epoch.

        `learning` goes to `nn.learn`. Its units are those of the first draw.
        """
        return learn_standardised(
            self, self.denoise.loss, posterior, condition, steps=steps, seed=seed, **learning
        )

    def sample(
        self,
        n: int,
        condition: Tensor | None = None,
        *,
        steps: int = 20,
        guidance: float = 1.0,
        sampler: Sampler = dpm_solver_pp_2m,
    ) -> Tensor:
        """States (n, D), row i under row i of `condition` (n, C); without, of the training mix."""
        start = self.denoise.noise.start(n, self.size).to(self.mean)
        denoise = guided(self.denoise, condition, guidance)
        return self.mean + self.scale * sampler(denoise, self.denoise.noise, start, steps)

    def log_prob(self, z: Tensor, condition: Tensor | None = None, **options: float) -> Tensor:
        """log p(z | c), (N,), by the probability flow; `options` go to `sample.log_prob`."""
        x, denoise = (z - self.mean) / self.scale, guided(self.denoise, condition)
        return log_prob(denoise, self.denoise.noise, x, **options) - self.scale.log().sum()
