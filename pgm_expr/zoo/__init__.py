"""The zoo: every story, part and objective by name, and the only place a pair is tied."""

from .build import (
    FROM_DATA,
    REQUIRES,
    build,
    check_entries,
    check_options,
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
from .user_stories import find_story, load_story, new

__all__ = [
    "FROM_DATA",
    "OBJECTIVES",
    "PARTS",
    "REFUSED",
    "REQUIRES",
    "STORIES",
    "Story",
    "build",
    "check_entries",
    "check_options",
    "check_unit",
    "defaults",
    "find_story",
    "known_options",
    "load_story",
    "measure",
    "new",
    "objective",
    "part_name",
    "pick",
    "refusal",
    "story",
    "takes",
]
