"""Are predicted counts calibrated? One half of each cell's counts predicted from the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from markupsafe import Markup
from matplotlib.figure import Figure
from scipy import sparse

from .. import evaluation
from ..evaluation.counts import pit, thinning
from ..evaluation.counts.replicates import Exchanged, exchanged_means
from ..inference.tracing import Batch
from ..predict import predict
from ..report import BLUE, ORANGE, Table, image, markup, panel
from .held_out import HeldOut, mean, plain
from .section import ALPHA, BAD, CHANCE, DOUBTFUL, GOOD, Section, Sentence

Pairs = list[tuple[Batch, Batch]]  # of a half that is seen and a half that is predicted
BARS = 20
DRAWS, RIVAL_DRAWS = 19, 5  # of each version of a cell, by the story and by a baseline
CELLS = 50  # held-out cells of a label that is looked at
SHARES = ("inside", "low", "high")
SCORES = ("log score", "CRPS")


def calibration(on: HeldOut) -> dict[str, Any]:
    """Randomised PIT by bin of genes and labels, and scores against baselines."""
    types, bins = _bins(on)
    pairs = [*thinning.halves(_with_types(on, on.versions[0]))]
    ours = pit.predictions(lambda seen, other: predict(*on.pair, seen, other), pairs)
    values = ours.pit.cpu().numpy()
    rivals = _rivals(on)
    tested = _tested(on, rivals, types, bins)
    histogram, _ = np.histogram(values, BARS, (0, 1))
    return {
        **pit.shares(values),
        "histogram": (histogram / histogram.mean()).tolist(),
        "rows": [_row(values, types, each, tested, 3 * i) for i, each in enumerate(bins)],
        "scores": _scores(ours, rivals, pairs, tested),
    }


def _bins(on: HeldOut) -> tuple[np.ndarray, list[pit.Bin]]:
    """Label of each held-out cell, "all" where labels are few; bins by cells of the fit."""
    known, counts = on.known.column("label"), on.known.counts
    if on.labels is not None and known is not None:
        names = np.append(on.run.encoding.labels, "none")[known]
        kinds = [k for k in np.unique(on.labels) if (on.labels == k).sum() >= CELLS]
        means = {k: _half(counts[names == k]) for k in kinds if (names == k).any()}
        if means:
            return on.labels, pit.bins(means)
    return np.full(len(on.held_out), "all"), pit.bins({"all": _half(counts)})


def _half(counts: sparse.sparray) -> np.ndarray:
    """Mean counts of genes (G,) in one half of each cell's counts."""
    return np.asarray(counts.mean(0)).ravel() / 2


def _with_types(on: HeldOut, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Minibatches with the label of each cell under a name that only the baselines read."""
    types, start = on.held_out.column("label"), 0
    for batch in batches:
        n = len(batch["library"])
        kinds = np.full(n, -1) if types is None else types[start : start + n]
        start += n
        yield {**batch, "type": torch.as_tensor(kinds, device=batch["x"].device)}


class Rival(NamedTuple):
    """A baseline, and whether it knows the labels."""

    baseline: evaluation.Baseline
    by_label: bool

    def predict(self, _: Batch, other: Batch) -> Any:
        """Distribution of the counts of a half, by its library."""
        return self.baseline.predict(other["library"], other["type"] if self.by_label else None)


def _rivals(on: HeldOut) -> dict[str, Rival]:
    train = torch.from_numpy(on.known.counts.toarray()).float()
    types = on.known.column("label")
    rivals = {"per-gene NB": Rival(evaluation.fit_baseline(train), False)}
    if types is not None and (types >= 0).any():
        y, kinds = torch.as_tensor(types), len(on.run.encoding.labels)
        fitted = evaluation.fit_baseline(train[y >= 0], y[y >= 0], kinds)
        rivals["per-label NB"] = Rival(fitted, True)
    return rivals


def _tested(
    on: HeldOut, rivals: Mapping[str, Rival], types: np.ndarray, bins: list[pit.Bin]
) -> Exchanged:
    """Shares of each bin, then scores less those of rivals: of real cells and of replicates."""
    versions = [_figures(on, rivals, types, bins, version) for version in on.versions]
    return exchanged_means(np.stack(versions))


def _figures(
    on: HeldOut,
    rivals: Mapping[str, Rival],
    types: np.ndarray,
    bins: list[pit.Bin],
    batches: Iterable[Batch],
) -> np.ndarray:
    """Figures of each cell, (N, 3 bins + 2 rivals)."""
    pairs = [*thinning.halves(_with_types(on, batches), empty=True)]
    ours = pit.predictions(lambda *pair: predict(*on.pair, *pair), pairs, draws=DRAWS)
    shares = pit.shares_by_cell(ours.pit.cpu().numpy(), types, bins)
    others = (pit.predictions(r.predict, pairs, draws=RIVAL_DRAWS) for r in rivals.values())
    gaps = [_gap(ours, other, score).cpu().numpy() for other in others for score in SCORES]
    return np.column_stack([shares, *gaps])


def _gap(ours: pit.Predictions, other: pit.Predictions, score: str) -> torch.Tensor:
    """By how much a score of each cell is better than another's, (N,)."""
    key, sign = score.lower().replace(" ", "_"), -1 if score == "CRPS" else 1
    return sign * (getattr(ours, key) - getattr(other, key)).double()


def _row(
    values: np.ndarray, types: np.ndarray, each: pit.Bin, tested: Exchanged, first: int
) -> dict[str, Any]:
    """A bin: its shares, those expected of a true story, p, and whether it is calibrated."""
    at = slice(first, first + 3)
    value, expected, p = (column[at] for column in tested)
    off = (p <= ALPHA) & (np.abs(value - expected) > pit.TOLERANCE)
    shares = pit.shares(values[np.ix_(types == each.type, each.chosen)])
    usual = {f"expected_{name}": e for name, e in zip(SHARES, expected, strict=True)}
    return plain(each.row() | shares | usual | {"p": p.min(), "holds": not off.any()})


def _scores(
    ours: pit.Predictions, rivals: Mapping[str, Rival], pairs: Pairs, tested: Exchanged
) -> list[dict[str, Any]]:
    """Scores less those of baselines, paired over cells; expected where the story is true."""
    rows: list[dict[str, Any]] = []
    for name, rival in rivals.items():
        other = pit.predictions(rival.predict, pairs)
        for score in SCORES:
            gap = _gap(ours, other, score)
            row = {"score": score, "rival": name, "difference": mean(gap)}
            rows.append(row | {"se": evaluation.standard_error(gap)})
    for row, *figures in zip(rows, *(column[-len(rows) :] for column in tested), strict=True):
        value, row["expected"], row["p"] = map(float, figures)
        row["low"] = row["p"] <= ALPHA and value < row["expected"] and row["difference"] <= 0
    return rows


def judge(found: dict[str, Any]) -> Sentence:
    """By the share of calibrated bins, and whether a baseline scores as well."""
    calibrated, bins = sum(row["holds"] for row in found["rows"]), len(found["rows"])
    close = [f"{row['score']} against {row['rival']}" for row in found["scores"] if row.get("low")]
    return Sentence(
        _mark(calibrated, bins, len(close)),
        f"Predicted counts: {calibrated} of {bins} bins of genes and labels are calibrated "
        f"({found['inside']:.1%} of PITs in the central 95%); "
        + (f"no better in {', '.join(close)}." if close else "no score is low."),
        "shares of randomised PITs as in replicates that the story draws of these cells: within "
        "0.02 in the central 95% and 0.01 in each tail, or not significantly off in any bin; no "
        "score both below that of a negative binomial and significantly below what replicates "
        f"have; {CHANCE}; doubtful where one bin in five is off, or one score low",
    )


def _mark(calibrated: int, bins: int, low: int) -> str:
    if calibrated == bins and not low:
        return GOOD
    return DOUBTFUL if calibrated >= 0.8 * bins and low < 2 else BAD


def page(found: dict[str, Any]) -> list[str | Table]:
    """Shares over all genes and cells, and scores against baselines."""
    rows = found["rows"]
    better = (
        f"{row['score']} {row['difference']:+.2f} ± {row['se']:.2f} against {row['rival']}"
        for row in found["scores"]
    )
    return [
        f"One half of each cell's counts predicted from the other: {found['inside']:.1%} of "
        f"randomised PITs in the central 95%, {found['low']:.1%} below, {found['high']:.1%} "
        f"above; {sum(row['holds'] for row in rows)} of {len(rows)} bins of genes and labels are "
        f"calibrated. Improvement over baselines: {'; '.join(better)}."
    ]


def html(found: dict[str, Any]) -> Markup:
    """The page, after a histogram of PITs, with a table of all bins."""
    cells = [
        (
            str(row["type"]),
            f"{row['mean_from']:,.2f} to {row['mean_to']:,.2f}",
            str(row["genes"]),
            *(f"{row[share]:.1%}" for share in SHARES),
        )
        for row in found["rows"]
    ]
    failed = [number for number, row in enumerate(found["rows"]) if not row["holds"]]
    title = "Randomised PITs by label and mean count of genes; shaded: not calibrated"
    columns = ("label", "mean count", "genes", "central 95%", "below", "above")
    bins = Table(title, columns, cells, failed=failed)
    return markup(image(_histogram(found["histogram"]), "Randomised PITs"), *page(found), bins)


def _histogram(bars: list[float]) -> Figure:
    figure, axes = panel()
    axes.bar((np.arange(len(bars)) + 0.5) / len(bars), bars, 0.9 / len(bars), color=BLUE)
    axes.axhline(1, color=ORANGE, linewidth=1)
    axes.set(xlabel="randomised PIT", ylabel="density", title="1 where calibrated", ylim=(0, None))
    return figure


SECTION = Section(
    name="calibration",
    question="Are predicted counts calibrated?",
    measure=calibration,
    judge=judge,
    page=page,
    html=html,
    rank=10,
)
