"""What fitted stories are used for."""

from .generators import GENERATORS, Generator
from .states import States, conditions

__all__ = ["GENERATORS", "Generator", "States", "conditions"]
