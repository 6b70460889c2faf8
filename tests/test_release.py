"""One version everywhere: pyproject.toml states it, CITATION.cff repeats it."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_citation_is_of_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert cited and cited[1] == project["version"]
