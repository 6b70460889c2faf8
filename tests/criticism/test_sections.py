"""Laws of all sections, and what it takes to add one."""

import importlib
import io
import pkgutil

import numpy as np
import pytest
from rich.console import Console

import pgm_expr
from pgm_expr import criticism
from pgm_expr.criticism.criticize import criticize
from pgm_expr.criticism.pages import criticism_page, html_report
from pgm_expr.criticism.section import GOOD, Section, Sentence
from pgm_expr.criticism.sections import SECTIONS
from pgm_expr.criticism.verdict import headline, verdict
from pgm_expr.report import markup

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")
BY_NAME = {section.name: section for section in SECTIONS}
JUDGED = [section for section in SECTIONS if callable(section.judge)]


def printed(page):
    console = Console(file=io.StringIO(), width=200, highlight=False)
    console.print(page)
    return console.file.getvalue()


@pytest.mark.parametrize("name", BY_NAME)
def test_a_section_is_complete(name):
    section = BY_NAME[name]
    assert section.question.endswith("?") and "\n" not in section.question
    assert all(callable(part) for part in (section.measure, section.page, section.html))
    assert callable(section.judge) or len(section.judge.split()) > 3  # a reason


def test_each_file_with_a_section_is_a_row():
    modules = (
        importlib.import_module(f"{criticism.__name__}.{module.name}")
        for module in pkgutil.iter_modules(criticism.__path__)
    )
    files = {
        m.SECTION.name: m.__name__.rpartition(".")[2] for m in modules if hasattr(m, "SECTION")
    }
    assert files == {name: name for name in BY_NAME} and len(SECTIONS) == len(BY_NAME)


def test_the_verdict_has_one_order():
    ranks = [section.rank for section in JUDGED]
    assert len({*ranks}) == len(ranks)


PLANTED = Section(
    name="depth",
    question="Are the held-out cells deep enough?",
    measure=lambda on: {
        "median": float(np.median(on.held_out.library)),
        "by_cell": {"depth": on.held_out.library.tolist()},
    },
    judge=lambda found: Sentence(
        GOOD, f"Depth: the median is {found['median']:,.0f} counts.", "always good"
    ),
    page=lambda found: [f"Median library {found['median']:,.0f}."],
    html=lambda found: markup(f"Median library <{found['median']:,.0f}>."),
    rank=0,
    by_cell=("depth",),
    summary=("median",),
)
TABLE = (*SECTIONS, PLANTED)


@pytest.fixture(scope="module")
def run(folder):
    return pgm_expr.load(folder / "run")


def as_reported(run, found):
    return dict(name="a run", notes=run.notes, history=run.history, criticism=found)


def test_one_row_more_is_a_section_more_on_all_pages(run, adata):
    data = adata.copy()
    found = criticize(run, data, draws=100, sections=["two_sample", PLANTED], progress=False)
    median = f"{np.median(data.obs['pgm_vae_depth'].dropna()):,.0f}"
    assert data.uns["pgm_vae_depth"] == {"median": found["depth"]["median"]}
    first, second = verdict(found, TABLE)
    assert first.text == f"Depth: the median is {median} counts." and "AUC" in second.text
    assert headline([first]) == "Good: Depth."
    terminal = printed(criticism_page(found, TABLE))
    assert PLANTED.question in terminal and f"Median library {median}." in terminal
    assert "Good: Depth." in terminal
    page = html_report([as_reported(run, found)], TABLE)
    assert f"<h2>{PLANTED.question}</h2>" in page and first.text in page
    assert f"Median library &lt;{median}&gt;." in page
    assert "Depth" not in printed(criticism_page(found)) and "Depth" not in headline(
        verdict(found)
    )


def test_a_section_that_fails_is_listed_with_its_reason_on_all_pages(run):
    def measure(on):
        raise ValueError("requires <a scale> [kg]: weigh the cells.")

    failing = Section("weight", "Are cells heavy?", measure, PLANTED.judge, PLANTED.page, markup)
    found = criticize(run, draws=100, sections=[failing], progress=False)
    assert found["not_measured"] == {"weight": "requires <a scale> [kg]: weigh the cells."}
    table = (*SECTIONS, failing)
    assert verdict(found, table) == []
    terminal = printed(criticism_page(found, table))
    assert "Not measured: weight: requires <a scale> [kg]: weigh the cells." in terminal
    page = html_report([as_reported(run, found)], table)
    after = page.split("<h2>Are cells heavy?</h2>")[1]
    assert "Not measured: requires &lt;a scale&gt; [kg]: weigh the cells." in after


def test_an_error_of_a_section_is_no_missing_finding(run):
    broken = Section("broken", "Broken?", lambda on: 1 / 0, "it is broken", list, markup)
    with pytest.raises(ZeroDivisionError):
        criticize(run, draws=100, sections=[broken], progress=False)
