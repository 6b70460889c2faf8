r"""Discrete diffusion of counts (D3PM), for a subset of genes: whole numbers without a likelihood.

A gene's state is its count 0 .. K-2, or K-1 for 'K-1 or more'. Noise is added to each gene
independently by a chain of `kernels`; a network of all genes takes the steps back:

    p(x_{t-1} | x_t) ~ Q_t[x_{t-1}, x_t] sum_k f_k Qbar_{t-1}[k, x_{t-1}]     f = f(x_t, t, c)

This is the paper's equation 4. It is exact if f_k is the probability of a count k given the other
genes' x_t, since by Bayes' rule  p(x_0 = k | x_t) ~ f_k Qbar_t[k, x_t].  So f starts at the gene's
frequencies, which are exact for independent genes:

    f = softmax(log frequencies + F(x_t, t, c))

The loss is one random step of the variational bound, plus a small cross-entropy of x_0:

    -log p(x_0) <= KL(q(x_T | x_0) | end) + sum_t KL(q(x_{t-1} | x_t, x_0) | p(x_{t-1} | x_t))

where t = 1 is -log p(x_0 | x_1), since Qbar_0 = I.

Austin et al., NeurIPS 2021, https://arxiv.org/abs/2107.03006
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ..nn import FiLMNetwork, learn
from ..nn.learn import Draw, Learning
from .guidance import guided
from .kernels import Absorbing, Kernel

LEAST = 1e-30  # replaces a probability of 0 in logs


def log(p: Tensor) -> Tensor:
    """log p, finite at 0."""
    return p.clamp_min(LEAST).log()


class DiscreteDiffusion(nn.Module):
    """A generator of counts (N, G) of few genes, given conditions (N, C) or none.

    Counts above K - 1 are drawn as K - 1: choose more levels than the largest count.

    Parameters
    ----------
    genes
        Number of genes G.
    levels
        Number of levels K: counts 0 .. K - 2, and 'K - 1 or more'.
    conditions
        Number of encoded conditions C; 0 for none.
    kernel
        `Absorbing`, `Ordinal`, or a function (levels, times) -> `Kernel`.
    times
        Number of steps T.
    hidden, layers
        Width and number of blocks of the `FiLMNetwork`.
    dropout
        Share of conditions that training drops.
    entropy
        Weight of the cross-entropy of x_0 in the loss.

    References
    ----------
    Austin et al., NeurIPS 2021, https://arxiv.org/abs/2107.03006

    Examples
    --------
    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> diffusion = DiscreteDiffusion(genes=3, levels=5, times=10, hidden=8)
    >>> counts = torch.poisson(torch.ones(64, 3))
    >>> losses = list(diffusion.fit(lambda: counts, steps=3))
    >>> x = diffusion.sample(4)
    >>> x.shape, bool((x < 5).all())
    (torch.Size([4, 3]), True)
    """

    frequency: Tensor  # (G, K) log frequencies of levels
    upto: Tensor
    into: Tensor
    end: Tensor

    def __init__(
        self,
        genes: int,
        levels: int,
        conditions: int = 0,
        *,
        kernel: Callable[[int, int], Kernel] = Absorbing,
        times: int = 100,
        hidden: int = 128,
        layers: int = 3,
        dropout: float = 0.1,
        entropy: float = 0.01,
    ) -> None:
        super().__init__()
        self.genes, self.levels, self.times = genes, levels, times
        self.dropout, self.entropy = dropout, entropy
        self.network = FiLMNetwork(genes * levels, conditions, hidden, layers)
        self.register_buffer("frequency", torch.full((genes, levels), 1 / levels).log())
        t, chain = torch.arange(times + 1), kernel(levels, times)
        tables = {
            "upto": chain.upto(t),  # (T + 1, S, S)
            "into": log(chain.step(t.clamp_min(1)).mT),  # (T + 1, S, S): log Q_t[., x_t] at x_t
            "end": chain.end(),  # (S,)
        }
        for name, table in tables.items():
            self.register_buffer(name, table.to(torch.get_default_dtype()), persistent=False)

    def classes(self, counts: Tensor) -> Tensor:
        """States (N, G) of counts (N, G); ValueError where they are negative or fractional."""
        whole = counts.long()
        if (whole != counts).any() or (whole < 0).any():
            raise ValueError(
                "discrete diffusion is of raw counts: found a fraction or a negative number. "
                "Pass whole numbers from 0."
            )
        return whole.clamp_max(self.levels - 1)

    def guess(
        self, x: Tensor, t: Tensor, c: Tensor | None = None, drop: Tensor | None = None
    ) -> Tensor:
        """log f, (N, G, K), of states x (N, G) at t (N,) or (); a mask enters as all 0."""
        seen = one_hot(x, len(self.end))[..., : self.levels].flatten(1).to(self.frequency)
        out = self.network(seen, t.to(seen) / self.times, c, drop)
        return (self.frequency + out.view(-1, self.genes, self.levels)).log_softmax(-1)

    def back(self, x: Tensor, t: Tensor, log_f: Tensor) -> Tensor:
        """log p(x_{t-1} | x_t), (N, G, S), of x (N, G) at t (N,) or (), given log f (N, G, K).

        Where f is 1 at one x_0 and 0 elsewhere, this is log q(x_{t-1} | x_t, x_0).
        """
        t = t.reshape(-1, 1)
        ahead = log_f.exp() @ self.upto[t.squeeze(-1) - 1, : self.levels]
        return (self.into[t, x] + log(ahead)).log_softmax(-1)

    def terms(
        self, x0: Tensor, t: Tensor, c: Tensor | None = None, drop: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The term of the bound at t (N,) and the cross-entropy of x_0, (N,) each."""
        faded = self.upto[t[:, None], x0]  # (N, G, S)
        x = draw(faded)
        log_f = self.guess(x, t, c, drop)
        truth = self.back(x, t, log(one_hot(x0, self.levels).to(faded)))
        apart = truth.exp() * (truth - self.back(x, t, log_f))
        likely = log(self.upto[t[:, None], :, x][..., : self.levels])  # log Qbar_t[k, x_t]
        found = (log_f + likely).log_softmax(-1).gather(-1, x0.unsqueeze(-1))
        return apart.sum((-1, -2)), -found.sum((-1, -2))

    def loss(self, x0: Tensor, c: Tensor | None = None) -> Tensor:
        """The loss, (N,), of states x0 (N, G), at one random time each."""
        t = torch.randint(1, self.times + 1, (len(x0),)).to(x0.device)
        drop = (torch.rand(len(x0)) < self.dropout).to(x0.device)
        term, entropy = self.terms(x0, t, c, drop)
        return self.times * term + self.entropy * entropy

    def fit(
        self,
        counts: Draw,
        condition: Tensor | None = None,
        *,
        steps: int = 4000,
        seed: int = 0,
        **learning: Unpack[Learning],
    ) -> Iterator[float]:
        """Train in place on counts, one epoch at a time.

        Parameters
        ----------
        counts
            A function that gives the counts (N, G) of an epoch; the first ones set frequencies.
        condition
            Conditions (N, C), row i for cell i; None for none.
        steps
            Steps of Adam.
        seed
            Seed of order and noise. The caller's generator is left alone.
        **learning
            batch_size, learning_rate and decay of `nn.learn`.

        Yields
        ------
        float
            Mean loss of each epoch.
        """
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            first = one_hot(self.classes(counts()), self.levels).to(self.frequency)
        self.frequency.copy_(((first.sum(0) + 0.5) / (len(first) + self.levels / 2)).log())

        def draws() -> Tensor:
            return self.classes(counts())

        yield from learn(self, self.loss, draws, condition, steps=steps, seed=seed, **learning)

    @torch.no_grad()
    def sample(self, n: int, condition: Tensor | None = None, *, guidance: float = 1.0) -> Tensor:
        """Draw counts.

        Parameters
        ----------
        n
            Number of cells.
        condition
            Conditions (n, C), row i for cell i; None draws from the training mixture.
        guidance
            Weight w: 0 is unconditional, 1 the condition; more exaggerates it.

        Returns
        -------
        Tensor
            Whole numbers up to K - 1, (n, G).
        """
        guess = guided(self.guess, condition, guidance)
        x = draw(self.end.expand(n, self.genes, -1))
        for t in torch.arange(self.times, 0, -1, device=x.device):
            log_f = guess(x, t).log_softmax(-1)  # guided probabilities do not sum to 1
            x = draw(self.back(x, t, log_f).exp())
        return x

    @torch.no_grad()
    def bound(self, counts: Tensor, condition: Tensor | None = None) -> Tensor:
        """A lower bound on log p(x), in nats, from one draw of each x_t.

        Parameters
        ----------
        counts
            Counts (N, G).
        condition
            Conditions (N, C), or None.

        Returns
        -------
        Tensor
            The bound of each cell, (N,).
        """
        x0 = self.classes(counts)
        last = self.upto[-1, x0]
        total = (last * (log(last) - log(self.end))).sum((-1, -2))
        for t in torch.arange(1, self.times + 1, device=x0.device):
            total += self.terms(x0, t.expand(len(x0)), condition)[0]
        return -total


def draw(p: Tensor) -> Tensor:
    """Draws of states (N, G) with probabilities (N, G, S)."""
    return p.flatten(0, 1).multinomial(1).view(p.shape[:2])
