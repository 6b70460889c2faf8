"""Encodings as pgm_expr 0.5.0 stored them: one dict of levels by kind of column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def fields_of_0_5(stored: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same columns as a list of fields; runs before perturbations and targets lack those."""
    columns = stored["columns"]
    found = [
        {
            "kind": "label",
            "key": columns["labels_key"],
            "levels": stored["labels"],
            "unlabeled_category": columns["unlabeled_category"],
        },
        {"kind": "batch", "key": columns["batch_key"], "levels": stored["batches"]},
        *(
            {"kind": "categorical_covariate", "key": key, "levels": levels}
            for key, levels in stored["categories"].items()
        ),
        *(
            {"kind": "continuous_covariate", "key": key, "mean": mean, "sd": sd}
            for key, (mean, sd) in stored["moments"].items()
        ),
        {
            "kind": "perturbation",
            "key": columns.get("perturbation_key"),
            "levels": stored.get("perturbations", []),
            "control": columns.get("control"),
        },
    ]
    if stored.get("target"):
        mean, sd = stored["target"]
        found.append({"kind": "target", "key": columns["target_key"], "mean": mean, "sd": sd})
    return [field for field in found if field["key"] is not None]
