"""What a report tells of a run, as plain data and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .criticism import criticize
from .folder import CRITICISM, LATENT, METRICS, RunFolder
from .run import Run


def reported(
    run: Run, path: Path, *, cells: int, draws: int, progress: Callable[[Iterable], Iterable]
) -> dict[str, Any]:
    """Notes, history, figures, criticism and pictures of a run.

    Figures and the picture of states that the folder holds are taken as they are, others are
    made and kept there.
    """
    folder = RunFolder(path)
    run.metrics = _kept(folder, METRICS, run.evaluate)
    told = _kept(
        folder, CRITICISM, lambda: criticize(run, cells=cells, draws=draws, progress=progress)
    )
    if not (folder.path / LATENT).exists():
        folder.write(LATENT, run.pictures()[LATENT])
    return {
        "name": str(path),
        "notes": {key: value for key, value in run.notes.items() if key != "genes"},
        "history": run.history,
        "metrics": run.metrics,
        "criticism": told,
        "latent_png": (folder.path / LATENT).read_bytes(),
    }


def _kept(folder: RunFolder, name: str, measure: Callable[[], Any]) -> Any:
    if not (folder.path / name).exists():
        folder.write(name, measure())
    return folder.read(name)
