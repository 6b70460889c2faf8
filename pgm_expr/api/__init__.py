"""What a notebook user calls: `fit`, `load`, and the `Run` they return."""

from ..data import describe, load_dataset
from ..inference import PosteriorCollapse, write_atomically
from ..zoo import OBJECTIVES, PARTS, REFUSED, STORIES, story
from ..zoo import new as new_story
from .compare import Comparison, compare
from .criticism import CELLS, DRAWS, SECTIONS, criticize
from .express import express
from .fit import fit
from .folder import CRITICISM, RunFolder, generator_file
from .generate import generate
from .h5ad import check_out, write_h5ad
from .load import load
from .predict import predict
from .prior import STEPS as PRIOR_STEPS
from .reported import reported
from .run import Run
from .sleep import SLEEP
from .table import Table, prepare

__all__ = [
    "CELLS",
    "CRITICISM",
    "DRAWS",
    "OBJECTIVES",
    "PARTS",
    "REFUSED",
    "SECTIONS",
    "SLEEP",
    "STORIES",
    "Comparison",
    "PosteriorCollapse",
    "Run",
    "PRIOR_STEPS",
    "RunFolder",
    "Table",
    "check_out",
    "compare",
    "criticize",
    "describe",
    "express",
    "fit",
    "generate",
    "generator_file",
    "load",
    "load_dataset",
    "new_story",
    "predict",
    "prepare",
    "reported",
    "story",
    "write_atomically",
    "write_h5ad",
]
