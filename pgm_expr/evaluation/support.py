"""Are there cells of a condition near the cells that are set to it? Support of a counterfactual.

share          share of the target cells that lie in strata with `LEAST` observed cells of the
               condition or more; target cells that have the condition already are left out
effective      effective sample size of those observed cells, weighted as the target cells are:
               (sum_s w_s)^2 / sum_s (w_s^2 / n_s)
heterogeneity  how much the effect differs between strata, relative to how much strata differ:
               ratio of the between-strata variances of log fold changes and of log expression,
               mean over genes, sampling variance removed. Where clusters of states pair cells of
               different types, it is near 1 or above
cramers_v      association of the condition with the label, 0 to 1
auc            AUC of a logistic regression of the condition on 10 principal components of log
               expression, cross-validated: 1 where cells of the condition lie apart. A strong
               effect of the condition does that too

Rule. None: share below 0.1; where strata are clusters of states, share below 0.75 or heterogeneity
above 0.2, since clusters of two types may then have been paired. Partial: share below 0.95, or
fewer than 50 training cells of the condition. Good otherwise.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import nan
from typing import Any

import numpy as np
from scipy import sparse

from .standardise import LEAST, Observed

FULL, NONE, APART, FEW = 0.95, 0.1, 0.2, 50
CLUSTERED = 0.75  # share below which clusters of states are no support
CELLS = 2000  # cells that the AUC is estimated from, at most


@dataclass(frozen=True)
class Support:
    """What is known of a condition near some cells; the module states the terms and the rule.

    Parameters
    ----------
    condition
        As text, `stim=yes`.
    strata
        What cells are compared within: columns of obs, or clusters of states.
    training_cells
        Training cells of the condition.
    targets
        Target cells that do not have the condition.
    by_states
        Whether strata are clusters of states.
    share, effective, heterogeneity, cramers_v, auc
        See the module; NaN where undefined.

    Examples
    --------
    >>> found = Support("stim=yes", "cell_type", training_cells=12, targets=80, share=0.5)
    >>> found.verdict
    'partial'
    >>> print(found.sentence())
    stim=yes: 40 of 80 cells have cells of it in their cell_type; 12 training cells
    """

    condition: str
    strata: str
    training_cells: int
    targets: int
    share: float
    by_states: bool = False
    effective: float = nan
    heterogeneity: float = nan
    cramers_v: float = nan
    auc: float = nan

    @property
    def verdict(self) -> str:
        """`good`, `partial` or `none`."""
        least = CLUSTERED if self.by_states else NONE
        if self.targets and (self.share < least or self.heterogeneity > APART):
            return "none"
        partial = (self.targets and self.share < FULL) or self.training_cells < FEW
        return "partial" if partial else "good"

    def sentence(self) -> str:
        """One line: numbers of cells, and how far the condition and states are associated."""
        near = round(self.share * self.targets)
        parts = [
            f"{self.condition}: {near} of {self.targets} cells have cells of it in their "
            f"{self.strata}; {self.training_cells} training cells"
        ]
        named = {"effective": self.effective, "heterogeneity": self.heterogeneity}
        named |= {"Cramer's V with the label": self.cramers_v, "AUC from expression": self.auc}
        parts += [f"{name} {value:.2f}" for name, value in named.items() if np.isfinite(value)]
        return "; ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Fields that are defined, and the verdict, as plain values."""
        plain = {n: v for n, v in asdict(self).items() if isinstance(v, str) or np.isfinite(v)}
        return plain | {"verdict": self.verdict}


def supported(observed: Observed, level: int) -> np.ndarray:
    """Which strata have enough observed cells of a level, (K,) bool."""
    return observed.cells[:, level] >= LEAST


def overlap(observed: Observed, targets: np.ndarray, level: int) -> tuple[float, float]:
    """Share and effective sample size of target cells (K, L) that have cells of a level.

    Examples
    --------
    >>> found = Observed(np.ones((2, 2, 1)), np.ones((2, 2, 1)), np.array([[9, 30], [50, 0]]))
    >>> share, effective = overlap(found, np.array([[9, 30], [27, 0]]), 1)
    >>> share, round(effective)
    (0.25, 30)
    """
    others = np.delete(targets, level, axis=1).sum(1).astype(float)
    near = supported(observed, level) & (others > 0)
    if not near.any():
        return (0.0 if others.any() else 1.0), 0.0
    spread = (others[near] ** 2 / observed.cells[near, level]).sum()
    total = others[near].sum()
    return float(total / others.sum()), float(total**2 / spread)


def heterogeneity(observed: Observed, level: int) -> tuple[float, float]:
    """Relative heterogeneity of the effect of a level, and the variance of effects (log scale)."""
    rest = np.delete(np.arange(observed.cells.shape[1]), level)
    n = observed.cells[:, rest].sum(1)
    both = supported(observed, level) & (n >= LEAST)
    if both.sum() < 2:
        return nan, 0.0
    share = (observed.cells[:, rest] / np.maximum(n, 1)[:, None])[both][..., None]
    mean = [observed.mean[both, level], (share * observed.mean[both][:, rest]).sum(1)]
    variance = [observed.variance[both, level]]
    variance += [(share**2 * observed.variance[both][:, rest]).sum(1)]
    noise = sum(v / m**2 for v, m in zip(variance, mean, strict=True))
    effects = _between(np.log(mean[0] / mean[1]), noise)
    strata = _between(np.log(mean[0] + mean[1]), noise / 4)
    return effects / max(strata, 1e-9), effects


def _between(values: np.ndarray, noise: np.ndarray) -> float:
    """Variance between rows beyond sampling, mean over columns (DerSimonian and Laird), >= 0."""
    weight = 1 / noise
    total = weight.sum(0)
    centre = (weight * values).sum(0) / total
    beyond = (weight * (values - centre) ** 2).sum() - (len(values) - 1) * values.shape[1]
    return float(max(beyond, 0) / (total - (weight**2).sum(0) / total).sum())


def cramers_v(one: np.ndarray, other: np.ndarray) -> float:
    """Association of two codes (N,), 0 to 1; NaN where one is constant.

    Examples
    --------
    >>> cramers_v(np.array([0, 0, 1, 1]), np.array([2, 2, 5, 5]))
    1.0
    """
    from scipy.stats.contingency import association, crosstab

    table = crosstab(one, other).count
    return float(association(table, method="cramer")) if min(table.shape) > 1 else nan


def separation(counts: sparse.csr_array, of_condition: np.ndarray, seed: int = 0) -> float:
    """Cross-validated AUC of a condition from log expression; NaN with fewer than 10 of a class.

    Parameters
    ----------
    counts
        Counts, (N, G).
    of_condition
        Which cells have the condition, (N,) bool.
    seed
        Of the cells that are chosen among more than 2,000.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import cross_val_predict

    chosen = np.random.default_rng(seed).permutation(len(of_condition))[:CELLS]
    y, x = of_condition[chosen], sparse.csr_array(counts)[chosen].toarray()
    if min(y.sum(), (~y).sum()) < 10:
        return nan
    total = np.maximum(x.sum(1, keepdims=True), 1)
    states = np.log1p(x / total * np.median(total))
    size = min(10, *states.shape)
    states = PCA(size, svd_solver="randomized", random_state=seed).fit_transform(states)
    states /= states.std(0) + 1e-12
    scores = cross_val_predict(LogisticRegression(), states, y, cv=3, method="decision_function")
    return float(roc_auc_score(y, scores))
