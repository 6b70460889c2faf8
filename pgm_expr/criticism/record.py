"""What a report shows of a run, and the pictures of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import report
from ..evaluation.guide.sites import has_states
from ..runs.fitted import Fitted
from ..runs.folder import CRITICISM, LATENT, METRICS, RunFolder
from .criticize import CELLS, DRAWS, criticize
from .evaluate import evaluate


def pictures(run: Fitted) -> dict[str, bytes]:
    """PNG pictures of a run: the training curve, and the latent space by label.

    Returns
    -------
    dict
        PNG files by name: `training.png`, where the run was trained, and `latent.png`, where cells
        have a latent state.

    Examples
    --------
    >>> sorted(run.pictures())
    ['latent.png', 'training.png']
    """
    found = {"training.png": report.training_picture(run.history)} if run.history else {}
    table = run.training_table()
    if has_states(run.model, run.guide, next(iter(run.unlabelled(table.cells)))):
        latent = run.use(run.unlabelled(table.cells)).loc.cpu().numpy()
        found[LATENT] = report.latent_picture(latent, table.labels)
    return found


def record(
    run: Fitted, *, cells: int = CELLS, draws: int = DRAWS, progress: bool = True
) -> dict[str, Any]:
    """Notes, history, figures, criticism and pictures of a stored run, as a report takes them.

    What the run's folder holds is taken as it is; what it lacks is made and kept there.

    Parameters
    ----------
    cells
        Maximum number of held-out cells, where the run is criticised here.
    draws
        Importance draws per cell, where the run is criticised here.
    progress
        Show a bar on stderr.

    Raises
    ------
    ValueError
        For a run that is not stored.
    """
    if run.folder is None:
        raise ValueError("a report is made of a stored run: got one in memory. Save it first.")
    folder = run.folder
    run.metrics = _kept(folder, METRICS, lambda: evaluate(run))
    checks = _kept(
        folder, CRITICISM, lambda: criticize(run, cells=cells, draws=draws, progress=progress)
    )
    latent = folder.path / LATENT
    if not latent.exists() and LATENT in (made := pictures(run)):
        folder.write(LATENT, made[LATENT])
    return {
        "name": str(folder.path),
        "notes": {key: value for key, value in run.notes.items() if key != "genes"},
        "history": run.history,
        "metrics": run.metrics,
        "criticism": checks,
        "latent_png": latent.read_bytes() if latent.exists() else None,
    }


def _kept(folder: RunFolder, name: str, measure: Callable[[], Any]) -> Any:
    """A finding of the folder, measured first where it is missing."""
    if not (folder.path / name).exists():
        measure()
    return folder.read(name)
