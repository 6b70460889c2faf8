"""What a fitted story answers: draws, beside rivals, with the support that the data give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..evaluation.support import Support

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class Prediction:
    """Draws of a quantity by cell or group, and by gene.

    Parameters
    ----------
    draws
        (S, R, G): S draws for R cells or groups and G genes. NaN where there is no support.
    rows, genes
        Names of the cells or groups, (R,), and of the genes, (G,).
    quantity
        What is predicted, such as `log2 fold change`.
    story
        Name of the story.
    n
        Number of cells behind each row, (R,).
    condition
        Level by column of obs that cells were set to; empty for cells as they are.
    rivals
        Answers of simple methods, (R, G) each: `unchanged`, `mean_shift`, and `story`, the
        decoder alone.
    support
        Whether there are observed cells of the condition; None without a condition.
    split
        Cells that the run was fitted to: numbers by part.
    seeds
        Seeds by name.

    Examples
    --------
    >>> found = run.normalized_expression(adata, return_draws=True, groupby="cell_type")
    >>> found.draws.shape, list(found.rows)
    ((25, 2, 12), ['a', 'b'])
    >>> low, high = found.interval(0.9)
    >>> bool(((low <= found.mean) & (found.mean <= high)).all())
    True
    >>> found.to_frame().columns.tolist()[:4]
    ['row', 'gene', 'mean', 'sd']
    """

    draws: np.ndarray
    rows: Sequence[str]
    genes: Sequence[str]
    quantity: str
    story: str
    n: np.ndarray
    condition: Mapping[str, object] = field(default_factory=dict)
    rivals: Mapping[str, np.ndarray] = field(default_factory=dict)
    support: Support | None = None
    split: Mapping[str, int] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)

    @property
    def mean(self) -> np.ndarray:
        """Mean over draws, (R, G)."""
        return self.draws.mean(0)

    @property
    def sd(self) -> np.ndarray:
        """Standard deviation over draws, (R, G)."""
        return self.draws.std(0, ddof=min(1, len(self.draws) - 1))

    def interval(self, level: float = 0.95) -> np.ndarray:
        """Central interval, (2, R, G).

        Parameters
        ----------
        level
            Its probability, between 0 and 1.

        Raises
        ------
        ValueError
            For a level outside 0 to 1.
        """
        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1: got {level}. Pass such as 0.95.")
        return np.quantile(self.draws, [(1 - level) / 2, (1 + level) / 2], axis=0)

    @property
    def record(self) -> dict[str, Any]:
        """Provenance, as plain values: story, quantity, n, condition, split, seeds, baseline."""
        levels = {name: str(level) for name, level in self.condition.items()}
        found = {
            "story": self.story,
            "quantity": self.quantity,
            "n": int(np.sum(self.n)),
            "draws": len(self.draws),
            "condition": levels,
            "split": dict(self.split),
            "seeds": dict(self.seeds),
            "baseline": ", ".join(self.rivals),
        }
        return found | ({"support": self.support.to_dict()} if self.support else {})

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """A row per cell or group and gene.

        Parameters
        ----------
        level
            Probability of the interval.

        Returns
        -------
        DataFrame with `row`, `gene`, `mean`, `sd`, `low`, `high` and a column per rival;
        `.attrs["pgm_expr"]` is `record`.
        """
        import pandas as pd

        low, high = self.interval(level)
        names = {"mean": self.mean, "sd": self.sd, "low": low, "high": high, **self.rivals}
        table = pd.DataFrame({name: np.ravel(values) for name, values in names.items()})
        table.insert(0, "gene", np.tile(np.asarray(self.genes, str), len(self.rows)))
        table.insert(0, "row", np.repeat(np.asarray(self.rows, str), len(self.genes)))
        table.attrs["pgm_expr"] = self.record
        return table

    def to_anndata(self, level: float = 0.95) -> AnnData:
        """Means in X, `sd`, `low`, `high` and rivals as layers, `record` in `uns["pgm_expr"]`.

        Parameters
        ----------
        level
            Probability of the interval.
        """
        import pandas as pd
        from anndata import AnnData

        low, high = self.interval(level)
        obs = pd.DataFrame({"n": self.n}, index=pd.Index(np.asarray(self.rows, str)))
        found = AnnData(self.mean, obs, pd.DataFrame(index=pd.Index(np.asarray(self.genes, str))))
        layers = {"sd": self.sd, "low": low, "high": high, **self.rivals}
        for name, values in layers.items():
            found.layers[name] = np.asarray(values)
        found.uns["pgm_expr"] = self.record
        return found

    def plot(self, row: int | str = 0, *, genes: int = 20, ax: Axes | None = None) -> Axes:
        """The genes of largest |mean / sd| in one row, with 95% intervals.

        Parameters
        ----------
        row
            Name or position of the cell or group.
        genes
            Number of genes.
        ax
            Where to draw; a new figure by default.

        Returns
        -------
        The axes.
        """
        import matplotlib.pyplot as plt

        at = list(self.rows).index(row) if isinstance(row, str) else row
        mean, (low, high) = self.mean[at], self.interval()[:, at]
        order = np.argsort(-np.abs(mean) / (self.sd[at] + 1e-12), kind="stable")[:genes][::-1]
        ax = plt.subplots(figsize=(4, 0.8 + 0.2 * len(order)))[1] if ax is None else ax
        ax.errorbar(
            mean[order],
            np.arange(len(order)),
            xerr=[mean[order] - low[order], high[order] - mean[order]],
            fmt="o",
            markersize=3,
        )
        ax.set_yticks(np.arange(len(order)), np.asarray(self.genes)[order])
        ax.set_xlabel(self.quantity)
        ax.set_title(str(self.rows[at]))
        return ax
