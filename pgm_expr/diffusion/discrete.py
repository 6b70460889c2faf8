r"""Diffusion of counts themselves (D3PM), for a subset of genes: no likelihood, whole numbers.

A gene's state is its count 0 .. K-2, or K-1 for 'K-1 or more'. It fades by a chain of `kernels`,
each gene for itself, and a network that sees all genes takes the steps back:

    p(x_{t-1} | x_t) ~ Q_t[x_{t-1}, x_t] sum_k f_k Qbar_{t-1}[k, x_{t-1}]     f = f(x_t, t, c)

This is the paper's equation 4. It is exact if f_k is the probability of a count k given the other
genes' x_t, for by Bayes' rule  p(x_0 = k | x_t) ~ f_k Qbar_t[k, x_t].  So f begins with the
gene's own frequencies, which are f of genes that know nothing of each other:

    f = softmax(log frequencies + F(x_t, t, c))

The loss is the variational bound, one step of it at random, and a little cross-entropy of x_0:

    -log p(x_0) <= KL(q(x_T | x_0) | end) + sum_t KL(q(x_{t-1} | x_t, x_0) | p(x_{t-1} | x_t))

where t = 1 is -log p(x_0 | x_1), since Qbar_0 = I.

Austin et al., NeurIPS 2021, https://arxiv.org/abs/2107.03006
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ..nn import FiLMNetwork, learn
from ..nn.learn import Draw
from .guidance import guided
from .kernels import Absorbing, Kernel

LEAST = 1e-30  # stands for a probability of 0 in logs


def log(p: Tensor) -> Tensor:
    """log p, and of 0 a number that sums can bear."""
    return p.clamp_min(LEAST).log()


class DiscreteDiffusion(nn.Module):
    """Counts (N, G) below `levels` - 1, or at it for all above, under conditions (N, C) or none.

    `kernel` is `Absorbing` or `Ordinal`, or makes a `Kernel` of `levels` and `times`. What comes
    back as K-1 was K-1 or more: choose more levels than the greatest count, or lose the tail.
    """

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
        self._tabulate(kernel(levels, times))

    def _tabulate(self, kernel: Kernel) -> None:
        """Tables whose row t is of t."""
        t = torch.arange(self.times + 1)
        tables = {
            "upto": kernel.upto(t),  # (T + 1, S, S)
            "into": log(kernel.step(t.clamp_min(1)).mT),  # (T + 1, S, S): log Q_t[., x_t] at x_t
            "end": kernel.end(),  # (S,)
        }
        for name, table in tables.items():
            self.register_buffer(name, table.to(torch.get_default_dtype()), persistent=False)

    def classes(self, counts: Tensor) -> Tensor:
        """States (N, G) of counts; ValueError where those are not whole or below 0."""
        whole = counts.long()
        if (whole != counts).any() or (whole < 0).any():
            raise ValueError("discrete diffusion is of raw counts: whole numbers from 0.")
        return whole.clamp_max(self.levels - 1)

    def guess(
        self, x: Tensor, t: Tensor, c: Tensor | None = None, drop: Tensor | None = None
    ) -> Tensor:
        """log f, (N, G, K), of states x (N, G) at t (N,) or (); a mask is seen as no level."""
        seen = one_hot(x, len(self.end))[..., : self.levels].flatten(1).to(self.frequency)
        told = self.network(seen, t.to(seen) / self.times, c, drop)
        return (self.frequency + told.view(-1, self.genes, self.levels)).log_softmax(-1)

    def back(self, x: Tensor, t: Tensor, log_f: Tensor) -> Tensor:
        """log p(x_{t-1} | x_t), (N, G, S), of x (N, G) at t (N,) or () under log f (N, G, K).

        Under an x_0 that is known, where f is 0 but there, this is log q(x_{t-1} | x_t, x_0).
        """
        t = t.reshape(-1, 1)
        ahead = log_f.exp() @ self.upto[t.squeeze(-1) - 1, : self.levels]
        return (self.into[t, x] + log(ahead)).log_softmax(-1)

    def terms(
        self, x0: Tensor, t: Tensor, c: Tensor | None = None, drop: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The bound's term at t (N,) and the cross-entropy of x_0, (N,) each, at a draw of x_t."""
        faded = self.upto[t[:, None], x0]  # (N, G, S)
        x = draw(faded)
        log_f = self.guess(x, t, c, drop)
        truth = self.back(x, t, log(one_hot(x0, self.levels).to(faded)))
        apart = truth.exp() * (truth - self.back(x, t, log_f))
        likely = log(self.upto[t[:, None], :, x][..., : self.levels])  # log Qbar_t[k, x_t]
        known = (log_f + likely).log_softmax(-1).gather(-1, x0.unsqueeze(-1))
        return apart.sum((-1, -2)), -known.sum((-1, -2))

    def loss(self, x0: Tensor, c: Tensor | None = None) -> Tensor:
        """(N,) of states x0 (N, G), each at a time of its own."""
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
        **learning: float,
    ) -> Iterator[float]:
        """Train in place on counts (N, G) of `counts()`; yields the mean loss of each epoch.

        `learning` goes to `nn.learn`. Frequencies are those of the first draw.
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
        """Counts (n, G), whole numbers to K-1; row i under row i of `condition` (n, C)."""
        guess = guided(self.guess, condition, guidance)
        x = draw(self.end.expand(n, self.genes, -1))
        for t in torch.arange(self.times, 0, -1, device=x.device):
            log_f = guess(x, t).log_softmax(-1)  # what is guided no longer sums to 1
            x = draw(self.back(x, t, log_f).exp())
        return x

    @torch.no_grad()
    def bound(self, counts: Tensor, condition: Tensor | None = None) -> Tensor:
        """A bound on log p (N,) from below, in nats, by one draw of each x_t."""
        x0 = self.classes(counts)
        last = self.upto[-1, x0]
        total = (last * (log(last) - log(self.end))).sum((-1, -2))
        for t in torch.arange(1, self.times + 1, device=x0.device):
            total += self.terms(x0, t.expand(len(x0)), condition)[0]
        return -total


def draw(p: Tensor) -> Tensor:
    """States (N, G) of probabilities (N, G, S)."""
    return p.flatten(0, 1).multinomial(1).view(p.shape[:2])
