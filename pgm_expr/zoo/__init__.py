"""The zoo: every story, part and objective by name, and the only place a pair is tied."""

from .build import (
    FROM_DATA,
    build,
    check_options,
    check_told,
    check_unit,
    defaults,
    known_options,
    measure,
    takes,
)
from .catalogue import (
    OBJECTIVES,
    PARTS,
    REFUSED,
    STORIES,
    Story,
    objective,
    part_name,
    pick,
    refusal,
    story,
)
from .own import find_story, load_story, new

__all__ = [
    "FROM_DATA",
    "OBJECTIVES",
    "PARTS",
    "REFUSED",
    "STORIES",
    "Story",
    "build",
    "check_options",
    "check_told",
    "check_unit",
    "defaults",
    "find_story",
    "load_story",
    "known_options",
    "measure",
    "new",
    "objective",
    "part_name",
    "pick",
    "refusal",
    "story",
    "takes",
]
