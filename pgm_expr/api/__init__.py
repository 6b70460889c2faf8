"""What a notebook user calls: `fit`, `load`, and the `Run` they return."""

from .fit import fit
from .run import Run, load
from .table import Table, prepare

__all__ = ["Run", "Table", "fit", "load", "prepare"]
