"""The folder of a run: what state it is in, and who may write there."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..inference import CHECKPOINT, NONFINITE, write_atomically

STORY, MODEL = "story.json", "model.safetensors"
HISTORY, METRICS = "history.csv", "metrics.json"
CRITICISM = "criticism.json"
LATENT = "latent.png"
PICTURES = ("training.png", LATENT)
KEYS = ("story", "options", "objective", "dims", "plan", "source", "encoding", "genes")  # of STORY
ARTEFACTS = (MODEL, CHECKPOINT, HISTORY, METRICS, CRITICISM, NONFINITE, *PICTURES, STORY)


def generator_file(name: str) -> str:
    """Where a generator that learnt the run is kept."""
    return f"generator-{name}.safetensors"


class RunFolder:
    """`story.json` marks a run; `model.safetensors`, written last, marks a finished one."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def refuse_unless_free(self, notes: Mapping[str, Any], overwrite: bool) -> None:
        """ValueError where fitting here would lose something; nothing is written."""
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"'{self.path}' is a file. Name a folder for the run.")
        if self.path.is_dir() and any(self.path.iterdir()) and not self._has(STORY):
            raise ValueError(f"'{self.path}' holds other files. Name a new or empty folder.")
        if overwrite or not self._has(STORY):
            return
        if self._has(MODEL):
            raise ValueError(
                f"'{self.path}' holds a finished run. Pass overwrite (--overwrite), or a new "
                "folder."
            )
        changed = _differences(self.read(STORY), notes)
        if changed:
            raise ValueError(
                f"'{self.path}' holds an unfinished run of other settings ({changed}). Use its "
                "settings to resume it, or pass overwrite (--overwrite)."
            )

    def begin(self, notes: Mapping[str, Any], overwrite: bool) -> None:
        """Make the folder ready for a new run, or leave it as it is for one to resume."""
        self.path.mkdir(parents=True, exist_ok=True)
        for partial in self.path.glob(".*-*"):  # of a write that was killed
            partial.unlink()
        if self._has(STORY) and not overwrite:
            return
        for name in (*ARTEFACTS, *map(str, self.path.glob(generator_file("*")))):
            (self.path / name).unlink(missing_ok=True)
        self.write(STORY, notes)

    def write(self, name: str, value: object) -> None:
        """Write a JSON value, or bytes, as one whole file."""
        whole = value if isinstance(value, bytes) else json.dumps(value, indent=1).encode()
        write_atomically(self.path / name, whole)

    def write_history(self, history: Sequence[Mapping[str, Any]]) -> None:
        """One row an epoch."""
        self.write(HISTORY, as_csv(history, list(history[0])))

    def read(self, name: str) -> Any:
        """A JSON artefact; ValueError where it is missing or damaged."""
        try:
            value = json.loads((self.path / name).read_text())
            return {key: value[key] for key in (*value, *(KEYS if name == STORY else ()))}
        except (OSError, ValueError, KeyError, TypeError):
            raise ValueError(
                f"'{self.path}' is not a run of pgm_expr: no readable {name}. Name the folder "
                "that `fit --out` wrote."
            ) from None

    def read_history(self) -> list[dict[str, float]]:
        """The rows that `write_history` wrote; empty where there is no such file."""
        if not self._has(HISTORY):
            return []
        rows = csv.DictReader(io.StringIO((self.path / HISTORY).read_text()))
        whole = ("epoch", "skipped")
        return [{k: int(v) if k in whole else float(v) for k, v in row.items()} for row in rows]

    def _has(self, name: str) -> bool:
        return (self.path / name).exists()


def as_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    """Rows as a CSV file with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The settings that differ, by name; versions may."""
    new = json.loads(json.dumps(new))
    names = [n for n in new if n != "versions" and old.get(n) != new[n]]
    return ", ".join("the story file" if name == "own" else name for name in names)
