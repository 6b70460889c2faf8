"""The verdict of a criticism in sentences, each with the rule that it follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

GOOD, DOUBTFUL, BAD = "good", "doubtful", "bad"
SURE = 2.0  # standard errors


class Sentence(NamedTuple):
    """One finding: `mark` is good, doubtful or bad by `rule`."""

    mark: str
    text: str
    rule: str


def verdict(told: Mapping[str, Any]) -> list[Sentence]:
    """What a criticism found, the most important first; sections not measured are left out."""
    found = (say(told[name]) for name, say in SAY.items() if name in told)
    return [sentence for sentence in found if sentence]


def headline(sentences: list[Sentence]) -> str:
    """One sentence on all: what may be trusted, and what may not."""
    names = {mark: [s.text.split(":")[0] for s in sentences if s.mark == mark] for mark in MARKS}
    if not sentences:
        return "Nothing was measured."
    parts = [f"{MARKS[mark]}: {', '.join(found)}" for mark, found in names.items() if found]
    return ". ".join(parts) + "."


MARKS = {GOOD: "Holds", DOUBTFUL: "Doubtful", BAD: "Does not hold"}


def _calibration(row: Mapping[str, Any]) -> Sentence:
    held, bins = sum(each["holds"] for each in row["rows"]), len(row["rows"])
    better = all(each["difference"] > SURE * each["se"] for each in row["scores"])
    mark = GOOD if held == bins and better else DOUBTFUL if held >= 0.8 * bins else BAD
    worse = [
        f"{each['score']} against {each['rival']}"
        for each in row["scores"]
        if each["difference"] <= SURE * each["se"]
    ]
    sharp = f"; not clearly better in {', '.join(worse)}" if worse else "; better than every rival"
    return Sentence(
        mark,
        f"Predicted counts: {held} of {bins} bins of genes and labels are calibrated"
        f" ({row['inside']:.1%} of PITs in the central 95%){sharp}.",
        "93 to 97% of randomised PITs inside and 1.5 to 3.5% in each tail, in every bin; log "
        "score and CRPS better than negative binomials by 2 standard errors",
    )


def _sbc(row: Mapping[str, Any]) -> Sentence:
    error = row["pooled_error"]
    mark = GOOD if not row["flagged"] else DOUBTFUL if error <= 0.03 else BAD
    middle = [each[4] for each in row["coverage"].values()]
    narrow = sum(middle) / len(middle) < row["levels"][4]
    way = "too narrow" if narrow else "too wide"
    tail = "" if not row["flagged"] else f" and posteriors are {way} or off their place"
    return Sentence(
        mark,
        f"Posteriors of states: intervals cover what they should within {error:.3f}{tail}.",
        f"no uneven ranks (a right guide is flagged {row['alpha']:.0%} of the time); doubtful up "
        "to .03",
    )


def _health(row: Mapping[str, Any]) -> Sentence:
    gap, used = row["iwae_gap"], row["active_units"]
    mark = BAD if not used else GOOD if gap < 2 else DOUBTFUL
    return Sentence(
        mark,
        f"The guide: its bound leaves {gap:.2f} nats a cell, {used} of {row['dimensions']} "
        f"dimensions are in use, Pareto k {row['pareto_k']['q50']:.2f} in the median.",
        "dimensions in use, and less than 2 nats left; k above .7 is usual in many dimensions and "
        "no alarm by itself",
    )


def _reference(row: Mapping[str, Any]) -> Sentence:
    guide = row["guide"]
    held = guide["covers_0.9"]
    mark = GOOD if held >= 0.85 else DOUBTFUL if held >= 0.75 else BAD
    return Sentence(
        mark,
        f"The guide beside NUTS: its 90% intervals hold {held:.0%} of the posterior, means are "
        f"off by {guide['shift']:.2f} and widths by a factor of {guide['width']:.2f} "
        f"({len(row['cells'])} cells).",
        "90% intervals hold at least 85% of the posterior by NUTS, doubtful down to 75%",
    )


def _ppc(row: Mapping[str, Any]) -> Sentence:
    off = [each["check"] for each in row["rows"] if each["drawn"] > 1.5 * each["floor"]]
    mark = GOOD if not off else DOUBTFUL if len(off) < 3 else BAD
    what = f"{', '.join(off)} far from the floor" if off else "all checks near the floor"
    return Sentence(
        mark,
        f"Drawn counts: {what} of real against real.",
        "errors at most 1.5 times those of other real cells",
    )


def _two_sample(row: Mapping[str, Any]) -> Sentence:
    over = row["auc"] - row["auc_floor"]
    mark = GOOD if over <= 0.05 else DOUBTFUL if over <= 0.15 else BAD
    return Sentence(
        mark,
        f"Cells drawn from the prior: told from real ones with AUC {row['auc']:.3f} (real against "
        f"real {row['auc_floor']:.3f}).",
        "AUC of the better classifier at most .05 above the floor, doubtful up to .15",
    )


def _markers(rows: list[Mapping[str, Any]]) -> Sentence:
    off = [
        row["label"]
        for row in rows
        if abs(row["drawn"] - row["held_out"]) > max(0.1, 3 * row["se"])
    ]
    mark = GOOD if not off else DOUBTFUL if len(off) <= len(rows) / 4 else BAD
    what = f", but for {', '.join(off)}" if off else ""
    return Sentence(
        mark,
        f"Markers: those of {len(rows)} labels are on as in held-out cells{what}.",
        "share of markers on within .1, or 3 standard errors, of that of held-out cells; doubtful "
        "where a quarter of the labels or fewer are off",
    )


def _structure(rows: list[Mapping[str, Any]]) -> Sentence | None:
    labels, batches = (_measured(rows, kind) for kind in ("label", "batch"))
    if not labels and not batches:
        return None
    mark = BAD if labels and not _readable(labels) else GOOD
    if _readable(batches):
        mark = DOUBTFUL if all(row["score"] < row["chance"] + 0.1 for row in batches) else BAD
    best = [max(each, key=lambda row: row["score"]) for each in (labels, batches) if each]
    said = "; ".join(
        f"{row['what']} {row['score']:.2f} (chance {row['chance']:.2f})" for row in best
    )
    return Sentence(
        mark,
        f"What states tell: balanced accuracy {said}.",
        "a probe reads labels (p < .05 / number of probes), and none reads batches, within labels "
        "where there are any",
    )


def _measured(rows: list[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    """Rows of a column, within labels or not, that were measured."""
    return [row for row in rows if row["what"].split(" within ")[0] == kind and "score" in row]


def _readable(rows: list[Mapping[str, Any]]) -> bool:
    return any(row["p"] < 0.05 / len(rows) for row in rows)


def _typicality(row: Mapping[str, Any]) -> Sentence:
    share = row["share_below_0.05"]
    mark = GOOD if share <= 0.1 else DOUBTFUL if share <= 0.2 else BAD
    return Sentence(
        mark,
        f"Unusual cells: {share:.1%} have p < .05 at their depth; the least typical is "
        f"{row['least_typical'][0]['cell']}.",
        "at most a tenth of held-out cells below .05",
    )


def _differential(row: Mapping[str, Any]) -> Sentence:
    short = row["ceiling"]["r"] - row["r"]
    mark = GOOD if short <= 0.05 else DOUBTFUL if short <= 0.15 else BAD
    return Sentence(
        mark,
        f"Differences between groups: log fold changes of {row['groups'][0]} against "
        f"{row['groups'][1]} kept with r {row['r']:.2f} (halves of real cells "
        f"{row['ceiling']['r']:.2f}).",
        "r at most .05 below that of two halves of the real cells",
    )


SAY = {
    "calibration": _calibration,
    "ppc": _ppc,
    "health": _health,
    "reference": _reference,
    "sbc": _sbc,
    "two_sample": _two_sample,
    "markers": _markers,
    "structure": _structure,
    "typicality": _typicality,
    "differential": _differential,
}
