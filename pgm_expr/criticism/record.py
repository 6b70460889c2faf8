"""What a report shows of a run, and the pictures of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import report
from ..runs.fitted import Fitted
from ..runs.folder import CRITICISM, LATENT, METRICS
from .criticize import CELLS, DRAWS, criticize
from .evaluate import evaluate


def pictures(run: Fitted) -> dict[str, bytes]:
    """PNG pictures of a run: the training curve, and the latent space by label.

    Returns
    -------
    PNG files by name: `training.png` (where the run was trained) and `latent.png`.

    Examples
    --------
    >>> sorted(run.pictures())
    ['latent.png', 'training.png']
    """
    table = run.training_table()
    latent = run.use(run.unlabelled(table.cells)).loc.cpu().numpy()
    curve = {"training.png": report.training_picture(run.history)} if run.history else {}
    return curve | {LATENT: report.latent_picture(latent, table.labels)}


def record(
    run: Fitted, *, cells: int = CELLS, draws: int = DRAWS, progress: bool = True
) -> dict[str, Any]:
    """Notes, history, figures, criticism and pictures of a stored run, as a report takes them.

    Figures and the picture that the run's folder holds are taken as they are; others are made
    and kept there.
    """
    run.metrics = _kept(run, METRICS, lambda: evaluate(run))
    checks = _kept(
        run, CRITICISM, lambda: criticize(run, cells=cells, draws=draws, progress=progress)
    )
    folder = run.folder
    if not (folder.path / LATENT).exists():
        folder.write(LATENT, pictures(run)[LATENT])
    return {
        "name": str(folder.path),
        "notes": {key: value for key, value in run.notes.items() if key != "genes"},
        "history": run.history,
        "metrics": run.metrics,
        "criticism": checks,
        "latent_png": (folder.path / LATENT).read_bytes(),
    }


def _kept(run: Fitted, name: str, measure: Callable[[], Any]) -> Any:
    if not (run.folder.path / name).exists():
        measure()
    return run.folder.read(name)
