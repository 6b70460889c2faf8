r"""Questions to a predicted distribution: tails, percentiles, modes, cells needed, ways between.

All take draws (S, G) of a prediction, or counts of real cells, S of them; figures are by gene.

    tail_probability   P(x > t), or P(x < t)
    percentile_of      P(x < o) + 1/2 P(x = o)               mid-rank of an observed o
    quantile           the least value that a share of the draws does not exceed
    modes              peaks of a density that are no accident, see `modes`
    cells_needed       cells a group for a test to see the difference, with some power

Errors and intervals are Monte Carlo ones: of these draws being finitely many, and not of the
prediction being wrong. Errors of shares are sd(h) / sqrt(S) with h of each draw 0, 1/2 or 1, and
their intervals exact, also where no draw, or each, is beyond the threshold.

The number of cells, with z = z_(1 - alpha / 2) and b = z_power, n in each group:

    Welch      n = ((z + b s) / d)^2 + z^2 / 4
               d = (m_y - m_x) / w,  w^2 = v_x + v_y
               s^2 = Var[(x - m_x) / w + d (x - m_x)^2 / 2 w^2], and so of y with -d: 1 where d
               is small, by the delta method
    Wilcoxon   n = ((z s_0 + b s_1) / (p - 1/2))^2,  p = P(x < y) + 1/2 P(x = y)
               s_0^2 = (1 - sum of t^3) / 6           t the shares of ties of both together
               s_1^2 = Var F_y(x) + Var F_x(y)        F the mid-rank of one among the other

The interval of n is that of the difference (d, or p - 1/2), whose standard error is that of
DeLong, or of the two means. Where the difference is below three of its standard errors the draws
do not show that anything differs, and n is infinite: of genes without a difference, 0.3% get a
finite number. Where it is below two, the interval has no end either. Take more draws then.

Cells are taken as independent: cells of one donor are not, and then it is donors that are needed.

Guenther, American Statistician 1981, https://doi.org/10.1080/00031305.1981.10479337 (z^2 / 4)
Noether, JASA 1987, https://doi.org/10.1080/01621459.1987.10478478 (Wilcoxon without ties)
DeLong et al., Biometrics 1988, https://doi.org/10.2307/2531595 (variance of p)
Clopper and Pearson, Biometrika 1934, https://doi.org/10.1093/biomet/26.4.404
Silverman, Density Estimation, 1986 (bandwidth, and modes as peaks that survive it)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.signal import find_peaks
from scipy.stats import beta, norm, rankdata

GRID = 512  # points at which a density is looked at
DEEP = 0.2  # a valley falls this share below the lower peak beside it
SURE = 3.0  # and this many standard errors of the difference


class Share(NamedTuple):
    """A probability by gene and its Monte Carlo standard error, (G,) each, by S draws.

    Examples
    --------
    >>> Share(np.array([0.0]), np.array([0.0]), 100).interval().round(3).tolist()
    [[0.0], [0.036]]
    """

    value: np.ndarray
    error: np.ndarray
    draws: int

    def interval(self, level: float = 0.95) -> np.ndarray:
        """Interval of Clopper and Pearson, (2, G): holds the truth at least that often."""
        hits, tail = self.value * self.draws, (1 - level) / 2
        low = beta.ppf(tail, hits, self.draws - hits + 1)
        high = beta.isf(tail, hits + 1, self.draws - hits)
        return np.stack([np.where(hits > 0, low, 0), np.where(hits < self.draws, high, 1)])


class CellsNeeded(NamedTuple):
    """Cells per group by gene, (G,) each; infinite where no difference is seen.

    Parameters
    ----------
    value
        The number, infinite where the difference is below three Monte Carlo standard errors.
    low, high
        Ends of its 95% Monte Carlo interval.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def tail_probability(draws: ArrayLike, threshold: ArrayLike, *, below: bool = False) -> Share:
    """P(x > threshold), or P(x < threshold), of draws (S, G); threshold is () or (G,)."""
    draws = _draws(draws)
    threshold = np.asarray(threshold)
    return _share(draws < threshold if below else draws > threshold)


def percentile_of(observed: ArrayLike, draws: ArrayLike) -> Share:
    """Where an observed cell (G,) lies among draws (S, G): 0 below all, 1 above all of them.

    Draws that equal it count half, so that a 0 among zeros is not extreme.
    """
    draws, observed = _draws(draws), np.asarray(observed)
    return _share((draws < observed) + 0.5 * (draws == observed))


def quantile(draws: ArrayLike, level: float = 0.99) -> np.ndarray:
    """The least value that a share `level` of draws (S, G) does not exceed, (G,).

    ValueError where fewer than ten draws are to be expected on either side of it. Of counts it
    is a count.
    """
    draws = _draws(draws)
    rare = min(level, 1 - level)
    if not rare > 0 or len(draws) * rare < 10 - 1e-9:
        need = f"at least {int(np.ceil(10 / rare - 1e-9))} draws" if rare > 0 else "0 < level < 1"
        raise ValueError(
            f"a quantile needs ten draws on both sides of it: got {len(draws)} draws for level "
            f"{level}. Take {need}."
        )
    return np.quantile(draws, level, axis=0, method="inverted_cdf")


def modes(draws: ArrayLike, *, deep: float = DEEP, sure: float = SURE) -> np.ndarray:
    """The number of modes of each gene of draws (S, G), (G,); two make it bimodal.

    Counts are spread evenly over their unit, [x, x + 1), so that each is no mode of its own. Of a
    Gaussian density with Silverman's bandwidth, mirrored at the least value, those peaks count
    whose valleys on both sides fall at least a share `deep` and `sure` standard errors below
    them. Modes belong to a scale: a gene can have one in counts and two in their logs.
    """
    draws = _draws(draws)
    return np.array([_modes(column, deep, sure) for column in draws.T])


def cells_needed(
    first: ArrayLike,
    second: ArrayLike,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    ranks: bool = True,
) -> CellsNeeded:
    """Cells in each of two groups for a two-sided test to see them differ, by gene.

    For many genes alpha is what is left of it after a correction. Below about ten cells these
    formulas of large samples are rough.

    Parameters
    ----------
    first, second
        Draws (S, G) and (S', G) of what is predicted of each group.
    power
        Probability that the test sees the difference.
    alpha
        Level of the test.
    ranks
        Whether the test is Wilcoxon's; Welch's t-test otherwise.

    Returns
    -------
    CellsNeeded
        Number by gene with a 95% Monte Carlo interval; infinite where nothing differs.

    Raises
    ------
    ValueError
        For different numbers of genes, and a power that is not between alpha and 1.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> found = cells_needed(rng.poisson(5, (2000, 1)), rng.poisson([[6]], (2000, 1)))
    >>> bool(found.low[0] < found.value[0] < found.high[0])
    True
    """
    first, second = _draws(first), _draws(second)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"two predictions are compared gene by gene: got {first.shape[1]} and "
            f"{second.shape[1]} genes. Pass the same genes."
        )
    if not (0 < alpha < 1 and alpha < power < 1):
        raise ValueError(
            f"power lies between alpha and 1: got power={power}, alpha={alpha}. Take .8 and .05."
        )
    count = _by_ranks if ranks else _by_means
    z, b = norm.isf(alpha / 2), norm.ppf(power)
    rows = [count(x, y, z, b) for x, y in zip(first.T, second.T, strict=True)]
    return CellsNeeded(*np.array(rows).reshape(-1, 3).T)


def interpolate(
    start: ArrayLike, end: ArrayLike, points: int = 11, *, spherical: bool = False
) -> np.ndarray:
    """States (points, D) on the way between two states (D,), both ends among them.

    The straight way passes nearer to the origin than draws of a normal prior lie; the spherical
    one keeps their distance, by turning and stretching evenly. ValueError where the way round is
    not one: between opposite states, or from the origin.
    """
    start, end = np.asarray(start, float), np.asarray(end, float)
    t = np.linspace(0, 1, points)[:, None]
    if not spherical:
        return (1 - t) * start + t * end
    lengths = np.linalg.norm(start), np.linalg.norm(end)
    cosine = start @ end / max(lengths[0] * lengths[1], 1e-300)
    if not min(lengths) > 0 or cosine < -1 + 1e-9:
        raise ValueError(
            f"a spherical way needs two directions that are not opposite: got lengths "
            f"{lengths[0]:.3g} and {lengths[1]:.3g}, cosine {cosine:.3g}. Go straight."
        )
    angle = np.arccos(min(cosine, 1.0))
    turned = [np.sinc(w * angle / np.pi) * w / np.sinc(angle / np.pi) for w in (1 - t, t)]
    direction = turned[0] * start / lengths[0] + turned[1] * end / lengths[1]
    return ((1 - t) * lengths[0] + t * lengths[1]) * direction


def _draws(draws: ArrayLike) -> np.ndarray:
    draws = np.asarray(draws)
    if draws.ndim != 2 or len(draws) < 2:
        raise ValueError(
            f"draws must be (S, G) with at least two rows: got shape {draws.shape}. Stack them."
        )
    return draws


def _share(hits: np.ndarray) -> Share:
    return Share(hits.mean(0), hits.std(0, ddof=1) / np.sqrt(len(hits)), len(hits))


def _modes(x: np.ndarray, deep: float, sure: float) -> int:
    x = _spread(np.asarray(x, float))
    quarter, most = np.subtract(*np.quantile(x, [0.75, 0.25])) / 1.349, x.std()
    if not most:
        return 1
    width = 0.9 * min(quarter or most, most) * len(x) ** -0.2
    density = _density(x, width)
    peaks, found = find_peaks(np.concatenate([[0], density, [0]]), prominence=0)
    height, rise = density[peaks - 1], found["prominences"]
    error = np.sqrt((2 * height - rise) / (2 * np.sqrt(np.pi) * width * len(x)))
    return max(1, int((rise >= np.maximum(deep * height, sure * error)).sum()))


def _spread(x: np.ndarray) -> np.ndarray:
    """Counts spread evenly over [x, x + 1), tied ones at equal distances; values as they are."""
    if (x != np.round(x)).any():
        return x
    _, at, ties = np.unique(x, return_inverse=True, return_counts=True)
    rank = rankdata(x, "ordinal") - 1 - (np.cumsum(ties) - ties)[at]
    return x + (rank + 0.5) / ties[at]


def _density(x: np.ndarray, width: float) -> np.ndarray:
    """A Gaussian density on a grid from the least value up, mirrored there, by convolution."""
    low, high = x.min(), x.max() + 3 * width
    step = (high - low) / GRID
    mass = np.histogram(x, GRID, (low, high))[0] / (len(x) * step)
    reach = int(np.ceil(5 * width / step))
    kernel = norm.pdf(np.arange(-reach, reach + 1) * step, scale=width)
    both = np.concatenate([mass[::-1], mass])
    return np.convolve(both, kernel / kernel.sum(), "same")[GRID:]


Needed = tuple[float, float, float]  # the number of cells, and the ends of its interval


def _within(effect: float, error: float, cells: Callable[[float], float]) -> Needed:
    """Cells that an effect above 0 of this standard error needs, and their interval."""
    if not effect > 1e-12:
        return np.inf, 1.0, np.inf
    reach = norm.isf(0.025) * error
    ends = cells(effect + reach), cells(effect - reach) if effect > reach else np.inf
    value = cells(effect) if effect > SURE * error else np.inf
    return value, ends[0], ends[1] if np.isfinite(value) else np.inf


def _by_means(x: np.ndarray, y: np.ndarray, z: float, b: float) -> Needed:
    """The variance s^2 of the statistic is the delta method's: skewness moves it from 1."""
    x, y = (x, y) if x.mean() < y.mean() else (y, x)
    total = x.var(ddof=1) + y.var(ddof=1)
    if not total > 0:
        return (np.inf, 1.0, np.inf) if x[0] == y[0] else (1.0, 1.0, 1.0)
    centred = (x - x.mean()) / np.sqrt(total), (y - y.mean()) / np.sqrt(total)

    def cells(d: float) -> float:
        pairs = zip(centred, (-1, 1), strict=True)
        s = np.sqrt(sum((c - sign * d / 2 * c**2).var() for c, sign in pairs))
        return np.ceil(((z + b * s) / d) ** 2 + z**2 / 4)

    d = (y.mean() - x.mean()) / np.sqrt(total)
    error = np.sqrt((x.var(ddof=1) / len(x) + y.var(ddof=1) / len(y)) / total)
    return _within(d, error, cells)


def _by_ranks(x: np.ndarray, y: np.ndarray, z: float, b: float) -> Needed:
    x_in_y, y_in_x = _mid_ranks(x, y), _mid_ranks(y, x)
    values, at = np.unique(np.concatenate([x, y]), return_inverse=True)
    weights = np.repeat([0.5 / len(x), 0.5 / len(y)], [len(x), len(y)])
    ties = np.bincount(at, weights, len(values))
    null, other = np.sqrt((1 - (ties**3).sum()) / 6), np.sqrt(x_in_y.var() + y_in_x.var())
    error = np.sqrt(x_in_y.var() / len(x) + y_in_x.var() / len(y))
    return _within(
        abs(y_in_x.mean() - 0.5),
        float(error),
        lambda effect: np.ceil(((z * null + b * other) / effect) ** 2),
    )


def _mid_ranks(x: np.ndarray, among: np.ndarray) -> np.ndarray:
    """P(a < x) + 1/2 P(a = x) over the draws `among`, of each x."""
    among = np.sort(among)
    return (np.searchsorted(among, x, "left") + np.searchsorted(among, x, "right")) / (
        2 * len(among)
    )
