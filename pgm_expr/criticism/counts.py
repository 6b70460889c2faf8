"""Is the model right: counts that it draws and predicts, beside real ones."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import torch

from .. import evaluation
from ..evaluation.counts import pit, ppc, thinning, two_sample
from ..predict import predict
from .held_out import HeldOut, mean, plain


def predictive(on: HeldOut) -> dict[str, Any]:
    """Counts drawn from the posteriors, and from the prior, beside real ones."""
    found = {}
    for source in ("posterior", "prior"):
        draw = partial(on.drawn, source)
        check = ppc.predictive_check(draw, on.held_out.counts, on.known.counts)
        rows = check.rows()
        if source == "posterior":
            found |= {"rows": rows, "genes": _genes(check)}
            r, ceiling = check.correlation
            found["correlation"] = {"r": r, "ceiling": ceiling}
        else:
            found["prior_rows"] = rows
    return found


def _genes(check: ppc.PredictiveCheck) -> dict[str, list[float]]:
    """The points of the panels: real, and the mean over replicates."""
    pairs = {"mean": "mean", "variance": "variance", "zero": "zero rate"}
    real = {f"{k}_real": check.real[name].tolist() for k, name in pairs.items()}
    return real | {f"{k}_drawn": check.drawn[name].mean(0).tolist() for k, name in pairs.items()}


def calibration(on: HeldOut) -> dict[str, Any]:
    """Randomised PIT of one half of each cell's counts, its state inferred from the other."""
    told = [*_with_types(on)]
    pairs = [*thinning.halves(told)]
    ours = pit.predictions(lambda seen, asked: predict(*on.pair, seen, asked), pairs)
    values = ours.pit.cpu().numpy()
    x = torch.cat([asked["x"] for _, asked in pairs]).cpu().numpy()
    rows = pit.by_bin(values, x, on.labels)
    if rows.empty:  # no label has enough held-out cells
        rows = pit.by_bin(values, x, np.full(len(x), "all"), cells=1)
    rows["holds"] = pit.passes(rows)
    histogram, _ = np.histogram(values, 20, (0, 1))
    return {
        **pit.shares(values),
        "histogram": (histogram / histogram.mean()).tolist(),
        "rows": [plain(row) for row in rows.to_dict("records")],
        "scores": _scores(on, ours, pairs),
    }


def _with_types(on: HeldOut) -> Iterable[dict[str, torch.Tensor]]:
    """Minibatches that tell the baselines, under another name, the type of each cell."""
    types, start = on.held_out.column("label"), 0
    for batch in on.held_out.batches():
        n = len(batch["library"])
        kinds = np.full(n, -1) if types is None else types[start : start + n]
        start += n
        yield {**batch, "type": torch.as_tensor(kinds, device=batch["x"].device)}


def _scores(on: HeldOut, ours: pit.Predictions, pairs: list) -> list[dict[str, Any]]:
    """Log score and CRPS better than those of negative binomials, paired over cells."""
    train = torch.from_numpy(on.known.counts.toarray()).float()
    types, rows = on.known.column("label"), []
    rivals = {"per-gene NB": (evaluation.fit_baseline(train), False)}
    if types is not None and (types >= 0).any():
        y, kinds = torch.as_tensor(types), len(on.run.encoding.labels)
        rivals["per-label NB"] = (evaluation.fit_baseline(train[y >= 0], y[y >= 0], kinds), True)
    for name, (rival, knows) in rivals.items():
        other = pit.predictions(_of_baseline(rival, knows), pairs)
        for score, sign in (("log score", 1), ("CRPS", -1)):
            key = score.lower().replace(" ", "_")
            gap = sign * (getattr(ours, key) - getattr(other, key)).double()
            rows.append(
                {"score": score, "rival": name, "difference": mean(gap)}
                | {"se": evaluation.standard_error(gap)}
            )
    return rows


def _of_baseline(baseline: evaluation.Baseline, knows: bool) -> pit.Predict:
    return lambda seen, asked: baseline.predict(asked["library"], asked["type"] if knows else None)


def told_apart(on: HeldOut) -> dict[str, Any]:
    """Two-sample tests of cells drawn from the prior, beside the real/real floor."""
    x = torch.cat([*on.drawn("prior")]).cpu().numpy()
    return two_sample.two_sample(x, on.held_out.counts, on.known.counts)._asdict()


def markers(on: HeldOut) -> list[dict[str, Any]]:
    """Are each label's markers on in counts drawn from the posteriors of its cells?"""
    types, known = (side.column("label") for side in (on.held_out, on.known))
    if types is None:
        raise ValueError("the data name no label. Fit with labels_key.")
    x = torch.cat([*on.drawn("posterior")]).cpu().numpy()
    found = two_sample.markers_on(x, types, on.held_out.counts, types, on.known.counts, known)
    names = on.run.encoding.labels
    return [{"label": str(names[kind]), **each._asdict()} for kind, each in found.items()]
