"""pgm_expr: a probabilistic-programming model zoo for gene expression in Pyro."""

from importlib.metadata import version

from .api import Story
from .comparison.compare import Comparison, compare
from .runs.fit import fit
from .runs.fitted import Run
from .runs.load import load

__all__ = ["Comparison", "Run", "Story", "compare", "fit", "load"]
__version__ = version("pgm-expr")
