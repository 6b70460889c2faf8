"""Are predicted counts calibrated? One half of each cell's counts predicted from the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from matplotlib.figure import Figure

from .. import evaluation
from ..evaluation.counts import pit, thinning
from ..inference.tracing import Batch
from ..predict import predict
from ..report import BLUE, ORANGE, Table, image, markup, panel
from .held_out import HeldOut, mean, plain
from .section import BAD, DOUBTFUL, GOOD, SURE, Section, Sentence

Pairs = list[tuple[Batch, Batch]]  # of a half that is seen and a half that is predicted
BARS = 20


def calibration(on: HeldOut) -> dict[str, Any]:
    """Randomised PIT by bin of genes and labels, and scores against baselines."""
    pairs = [*thinning.halves(_with_types(on))]
    ours = pit.predictions(lambda seen, other: predict(*on.pair, seen, other), pairs)
    values = ours.pit.cpu().numpy()
    x = torch.cat([other["x"] for _, other in pairs]).cpu().numpy()
    rows = pit.by_bin(values, x, on.labels)
    if rows.empty:  # no label has enough held-out cells
        rows = pit.by_bin(values, x, np.full(len(x), "all"), cells=1)
    rows["holds"] = pit.passes(rows)
    histogram, _ = np.histogram(values, BARS, (0, 1))
    return {
        **pit.shares(values),
        "histogram": (histogram / histogram.mean()).tolist(),
        "rows": [plain(row) for row in rows.to_dict("records")],
        "scores": _scores(on, ours, pairs),
    }


def _with_types(on: HeldOut) -> Iterator[Batch]:
    """Minibatches with the label of each cell under a name that only the baselines read."""
    types, start = on.held_out.column("label"), 0
    for batch in on.held_out.batches():
        n = len(batch["library"])
        kinds = np.full(n, -1) if types is None else types[start : start + n]
        start += n
        yield {**batch, "type": torch.as_tensor(kinds, device=batch["x"].device)}


def _scores(on: HeldOut, ours: pit.Predictions, pairs: Pairs) -> list[dict[str, Any]]:
    """Log score and CRPS less those of negative binomials, paired over cells."""
    train = torch.from_numpy(on.known.counts.toarray()).float()
    types, rows = on.known.column("label"), []
    rivals = {"per-gene NB": (evaluation.fit_baseline(train), False)}
    if types is not None and (types >= 0).any():
        y, kinds = torch.as_tensor(types), len(on.run.encoding.labels)
        rivals["per-label NB"] = (evaluation.fit_baseline(train[y >= 0], y[y >= 0], kinds), True)
    for name, (rival, by_label) in rivals.items():
        other = pit.predictions(_of_baseline(rival, by_label), pairs)
        for score, sign in (("log score", 1), ("CRPS", -1)):
            key = score.lower().replace(" ", "_")
            gap = sign * (getattr(ours, key) - getattr(other, key)).double()
            rows.append(
                {"score": score, "rival": name, "difference": mean(gap)}
                | {"se": evaluation.standard_error(gap)}
            )
    return rows


def _of_baseline(baseline: evaluation.Baseline, by_label: bool) -> pit.Predict:
    return lambda _, other: baseline.predict(other["library"], other["type"] if by_label else None)


def judge(found: dict[str, Any]) -> Sentence:
    """By the share of calibrated bins, and whether each baseline scores clearly lower."""
    calibrated, bins = sum(row["holds"] for row in found["rows"]), len(found["rows"])
    close = [
        f"{row['score']} against {row['rival']}"
        for row in found["scores"]
        if row["difference"] <= SURE * row["se"]
    ]
    return Sentence(
        _mark(calibrated, bins, not close),
        f"Predicted counts: {calibrated} of {bins} bins of genes and labels are calibrated "
        f"({found['inside']:.1%} of PITs in the central 95%); "
        + (f"not clearly better in {', '.join(close)}." if close else "better than baselines."),
        "93 to 97% of randomised PITs in the central 95% and 1.5 to 3.5% in each tail, in every "
        "bin; log score and CRPS better than negative binomials by 2 standard errors",
    )


def _mark(calibrated: int, bins: int, better: bool) -> str:
    if calibrated == bins and better:
        return GOOD
    return DOUBTFUL if calibrated >= 0.8 * bins else BAD


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
            *(f"{row[share]:.1%}" for share in ("inside", "low", "high")),
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
