"""Log2 fold changes between two groups: what a test of them returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LEVELS = np.linspace(0.0005, 0.9995, 1000)  # of the quantiles that draws are taken from


@dataclass(frozen=True)
class Effect:
    """Posterior of the log2 fold change of each gene.

    Parameters
    ----------
    genes
        Names, (G,).
    mean, sd
        Of the posterior, (G,).
    quantiles
        Of the posterior at `LEVELS`, (1000, G).
    lfsr
        Local false sign rate, (G,): the probability that the change is 0 or has the other sign
        (with a threshold: that it is not beyond it on the likelier side).
    raw, raw_se
        Maximum-likelihood estimate and its standard error, (G,).
    attrs
        The estimand, and how it was estimated.

    Examples
    --------
    >>> q = np.linspace(-1, 1, 1000)[:, None] + [0.0, 3.0]
    >>> effect = Effect(["a", "b"], q.mean(0), q.std(0), q, np.array([0.5, 0.0]), q[0], q[1])
    >>> effect.called().tolist()
    [False, True]
    """

    genes: Sequence[str]
    mean: np.ndarray
    sd: np.ndarray
    quantiles: np.ndarray
    lfsr: np.ndarray
    raw: np.ndarray
    raw_se: np.ndarray
    attrs: dict[str, Any] = field(default_factory=dict)

    def interval(self, level: float = 0.95) -> np.ndarray:
        """Central interval, (2, G)."""
        ends = [(1 - level) / 2, (1 + level) / 2]
        return np.stack([_at(self.quantiles, end) for end in ends])

    def draws(self, n: int = 1000, *, seed: int = 0) -> np.ndarray:
        """Independent draws of each gene, (n, G)."""
        rng = np.random.default_rng(seed)
        rows = rng.integers(len(self.quantiles), size=(n, self.quantiles.shape[1]))
        return np.take_along_axis(self.quantiles, rows, 0)

    def called(self, rate: float = 0.05) -> np.ndarray:
        """As many genes as keep the mean local false sign rate at or below `rate`, (G,) bool."""
        return self.svalue <= rate

    @property
    def svalue(self) -> np.ndarray:
        """Mean local false sign rate of a gene and all that are surer, (G,)."""
        order = np.argsort(self.lfsr, kind="stable")
        found = np.empty(len(order))
        found[order] = np.cumsum(self.lfsr[order]) / np.arange(1, len(order) + 1)
        return found

    def to_frame(self, *, rate: float = 0.05, level: float = 0.95) -> pd.DataFrame:
        """A row for each gene, in their order."""
        import pandas as pd

        low, high = self.interval(level)
        columns = {
            "mean": self.mean,
            "sd": self.sd,
            "low": low,
            "high": high,
            "lfsr": self.lfsr,
            "svalue": self.svalue,
            "called": self.called(rate),
            "raw": self.raw,
            "raw_se": self.raw_se,
        }
        frame = pd.DataFrame(columns, index=pd.Index(self.genes, name="gene"))
        frame.attrs["pgm_expr"] = dict(self.attrs)
        return frame

    def plot(self, *, ax: Axes | None = None, rate: float = 0.05) -> Axes:
        """Posterior mean against its surprise, -log10 of the local false sign rate."""
        from matplotlib.figure import Figure

        ax = ax or Figure(figsize=(4, 4)).subplots()
        called, height = self.called(rate), -np.log10(self.lfsr.clip(1e-12))
        for which, colour in ((~called, "0.7"), (called, "tab:blue")):
            ax.scatter(self.mean[which], height[which], s=6, color=colour, linewidths=0)
        ax.set(xlabel="log2 fold change", ylabel="-log10 local false sign rate")
        return ax


def _at(quantiles: np.ndarray, level: float) -> np.ndarray:
    place = np.interp(level, LEVELS, np.arange(len(LEVELS)))
    low, share = int(place), place - int(place)
    high = min(low + 1, len(quantiles) - 1)
    return (1 - share) * quantiles[low] + share * quantiles[high]
