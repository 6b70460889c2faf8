"""pgm_expr: a probabilistic-programming model zoo for gene expression in Pyro."""

from importlib.metadata import version

from .api import Comparison, Run, Story, compare, fit, load

__all__ = ["Comparison", "Run", "Story", "compare", "fit", "load"]
__version__ = version("pgm-expr")
