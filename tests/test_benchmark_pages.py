"""The page of measured figures is what the benchmarks' results say."""

import importlib.util
import json
from pathlib import Path

import pytest

from pgm_expr import zoo

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pages():
    """benchmarks/pages.py as a module."""
    spec = importlib.util.spec_from_file_location("pages", ROOT / "benchmarks" / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(pages):
    assert pages.PAGE.read_text() == pages.page(), "run python benchmarks/pages.py"


def test_a_table_in_markdown(pages, tmp_path):
    found = {
        "benchmark": "sbc",
        "command": "python benchmarks/sbc.py --cells 5",
        "version": "1.2",
        "columns": {"story": "the story", "error": "its error", "genes": "genes"},
        "rows": [
            {"story": "a", "error": 0.5, "genes": 7, "more": 1},
            {"story": "b", "error": 0.125, "genes": 10},
        ],
    }
    (tmp_path / "sbc.json").write_text(json.dumps(found))
    text = pages.page(tmp_path)
    assert "`python benchmarks/sbc.py --cells 5`, version 1.2:" in text
    assert text.strip().splitlines()[-4:] == [
        "| the story | its error | genes |",
        "| --- | --- | --- |",
        "| a | 0.500 | 7 |",
        "| b | 0.125 | 10 |",
    ]


def test_guides_that_refer_to_the_page_are_on_it():
    rows = json.loads((ROOT / "benchmarks" / "results" / "sbc.json").read_text())["rows"]
    linked = {
        name
        for name in zoo.STORIES
        if "docs/calibration.md" in (ROOT / "pgm_expr" / "guides" / f"{name}.py").read_text()
    }
    assert linked == {row["story"] for row in rows} >= {"vae", "label", "mixture"}
