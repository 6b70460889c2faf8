"""pgm_expr: a probabilistic-programming model zoo for gene expression in Pyro."""

from importlib.metadata import version

from .api import Run, fit, load
from .zoo import Story

__all__ = ["Run", "Story", "fit", "load"]
__version__ = version("pgm-expr")
