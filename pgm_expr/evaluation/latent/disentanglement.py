r"""Disentanglement of latent dimensions, and whether two fits find the same space.

    MIG_k           = (I(z_a; v_k) - I(z_b; v_k)) / H(v_k)      a, b: most informative dimensions
    disentanglement = sum_d rho_d (1 - H_K(R_d. / sum_k R_dk))  a dimension serves one factor
    completeness    = mean_k (1 - H_D(R_.k / sum_d R_dk))       a factor is in one dimension
    informativeness = mean_k score of predicting v_k from z     on held-out cells

Here R_dk >= 0 is how important z_d is for predicting v_k, rho_d its share of all importance, and
H_K an entropy to base K. Rotations of the latent space change all of these but the last; `cca`
is invariant to them.

Chen et al., NeurIPS 2018, https://arxiv.org/abs/1802.04942
Eastwood and Williams, ICLR 2018, https://openreview.net/forum?id=By-7dz-AZ
"""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.metrics import mutual_info_score
from sklearn.model_selection import train_test_split

BINS = 20  # of equally many cells, for continuous dimensions and factors
HELD_OUT = 0.25  # share of cells that informativeness is scored on
RANK = 1e-10  # singular values below this share of the largest are none


def mig(latent: np.ndarray, factors: np.ndarray, *, bins: int = BINS) -> float:
    """Mutual information gap of latents with factors: 1 is best; it depends on rotations.

    Parameters
    ----------
    latent
        States, (n, D). With one dimension the gap is to 0.
    factors
        Known factors, (n, K). Integers keep their levels.
    bins
        Continuous columns are cut into so many bins of equally many cells, so that monotone maps
        of a dimension change nothing.

    Raises
    ------
    ValueError
        For a factor that is the same in all cells, and columns that do not match.

    Examples
    --------
    >>> factors = np.random.default_rng(0).normal(size=(500, 2))
    >>> rotated = factors @ np.array([[1.0, 1.0], [1.0, -1.0]])
    >>> mig(factors, factors) > 0.8 > 0.2 > mig(rotated, factors)
    True
    """
    latent, factors = _matched("latent", latent, "factors", factors)
    codes = [_binned(column, bins) for column in latent.T]
    truths = [c if _is_levels(factors) else _binned(c, bins) for c in factors.T]
    gaps = []
    for k, truth in enumerate(truths):
        entropy = mutual_info_score(truth, truth)
        if not entropy > 0:
            raise ValueError(f"factor {k} is the same in all cells: it has no gap. Leave it out.")
        first, second = sorted([0.0, *(mutual_info_score(truth, c) for c in codes)])[:-3:-1]
        gaps.append((first - second) / entropy)
    return float(np.mean(gaps))


def dci(latent: np.ndarray, factors: np.ndarray, *, seed: int = 0) -> dict[str, float]:
    """Disentanglement, completeness and informativeness of latents for factors.

    Gradient-boosted trees predict each factor from all dimensions; their importances are R.

    Parameters
    ----------
    latent
        States, (n, D), of two dimensions or more.
    factors
        Known factors, (n, K), two or more.
    seed
        Of the trees, and of the split into training and held-out cells.

    Returns
    -------
    dict
        `disentanglement`, `completeness` and `informativeness`: the held-out R^2, at least 0; the
        accuracy for factors of integers.

    Raises
    ------
    ValueError
        For fewer than two dimensions or factors.
    """
    latent, factors = _matched("latent", latent, "factors", factors)
    for name, width in {"latent": latent.shape[1], "factors": factors.shape[1]}.items():
        if width < 2:
            raise ValueError(f"dci needs two columns of {name}: got {width}. Use mig for one.")
    made = GradientBoostingClassifier if _is_levels(factors) else GradientBoostingRegressor
    columns, scores = [], []
    for factor in factors.T:
        z, z_new, v, v_new = train_test_split(
            latent, factor, test_size=HELD_OUT, random_state=seed
        )
        trees = made(n_estimators=50, random_state=seed).fit(z, v)
        columns.append(trees.feature_importances_)
        scores.append(max(0.0, trees.score(z_new, v_new)))
    importance = np.stack(columns, 1)  # (D, K)
    weight = importance.sum(1) / max(importance.sum(), np.finfo(float).tiny)
    return {
        "disentanglement": float(weight @ _concentration(importance)),
        "completeness": float(_concentration(importance.T).mean()),
        "informativeness": float(np.mean(scores)),
    }


def cca(a: np.ndarray, b: np.ndarray) -> float:
    """Mean canonical correlation of two embeddings of the same cells, 0 to 1.

    Over as many pairs of directions as the smaller embedding has dimensions; invariant to
    invertible linear maps of either. Dimensions of noise count like any other: leave unused ones
    out.

    Parameters
    ----------
    a, b
        Embeddings, (n, D) and (n, E).

    Raises
    ------
    ValueError
        For an embedding that is the same in all cells.

    Examples
    --------
    >>> z = np.random.default_rng(0).normal(size=(50, 2))
    >>> round(cca(z, z @ np.array([[1.0, 2.0], [0.0, 3.0]])), 6)
    1.0
    """
    a, b = _matched("first", a, "second", b)
    spans = [_span(x) for x in (a, b)]
    if not all(span.shape[1] for span in spans):
        raise ValueError("an embedding is the same in all cells: nothing correlates with it.")
    pairs = np.linalg.svd(spans[0].T @ spans[1], compute_uv=False)
    return float(pairs.clip(0, 1).mean())


def _span(x: np.ndarray) -> np.ndarray:
    """Orthonormal columns that span the centred ones."""
    left, size, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    return left[:, size > RANK * max(size[0], np.abs(x).max())]


def _concentration(importance: np.ndarray) -> np.ndarray:
    """1 - entropy of each row's shares to the base of its length; 0 for a row without any."""
    total = importance.sum(1, keepdims=True)
    even = np.full_like(importance, 1 / importance.shape[1])
    share = np.divide(importance, total, out=even, where=total > 0)
    log = np.log(share, out=np.zeros_like(share), where=share > 0)
    return 1 + (share * log).sum(1) / np.log(importance.shape[1])


def _binned(column: np.ndarray, bins: int) -> np.ndarray:
    """Codes of bins of equally many cells; equal values share a bin."""
    edges = np.quantile(column, np.linspace(0, 1, bins + 1)[1:-1])
    return np.searchsorted(np.unique(edges), column, side="left")


def _is_levels(factors: np.ndarray) -> bool:
    return factors.dtype.kind in "iu"


def _matched(
    first: str, a: np.ndarray, second: str, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays of one row per cell; ValueError where they are not."""
    a, b = np.asarray(a), np.asarray(b)
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b):
        raise ValueError(
            f"{first} and {second} must be (n, columns) of the same n cells: "
            f"got {a.shape} and {b.shape}. Pass one row per cell."
        )
    if len(a) < 4 or 0 in a.shape + b.shape:
        raise ValueError(
            f"{first} and {second} need four cells and a column each: "
            f"got {a.shape} and {b.shape}. Pass more."
        )
    for name, x in {first: a, second: b}.items():
        if bad := np.count_nonzero(~np.isfinite(x).all(1)):
            raise ValueError(f"{name} is not finite in {bad} cells. Check the fit first.")
    return a, b
