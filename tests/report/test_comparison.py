"""The printed table of a comparison: what it declares, and what it says it cannot know."""

import io

import pytest
from rich.console import Console

from pgm_expr.report import comparison_page, comparison_picture
from pgm_expr.report.comparison import best


def row(prior, diff, *, se=0.5, tie=False, splits=5, seeds=1, measure="counts given library"):
    """A row as `Comparison.rows` has it."""
    several = splits > 1
    return {
        **dict(story="vae", objective="own", beta=1.0, likelihood="nb", posterior="own"),
        **dict(prior=prior, refused=None, measure=measure, splits=splits, seeds=seeds),
        **dict(heldout_iwae=-650.0 + diff, diff=diff, se=se if several else None),
        **dict(se_cells=0.3, se_seeds=0.1 if seeds > 1 else None),
        **dict(se_splits=0.4 if several else None, tie=tie if several else None),
        **dict(kl=7.0, collapsed=0, probe_macro_f1=None, seconds=12.0),
    }


def printed(rows):
    console = Console(file=io.StringIO(), width=160)
    console.print(comparison_page(rows, "Use NB.", 500))
    return " ".join(console.file.getvalue().split())


def test_total_error_and_its_parts_are_columns():
    page = printed([row("mog", 0.0, se=0.0, seeds=2), row("normal", -2.4, seeds=2)])
    assert "elpd diff se cells seeds splits KL probe s" in page
    assert "1 normal -652.40 -2.40 0.50 0.30 0.10 0.40 7.0 12" in page
    assert "over cells, seeds and 5 splits" in page and "Nadeau and Bengio" in page
    assert "seeds=2" not in page and page.endswith("Use NB.")


def test_one_seed_per_split_is_said_to_be_part_of_splits():
    page = printed([row("mog", 0.0), row("normal", -2.4)])
    assert "1 normal -652.40 -2.40 0.50 0.30 0.40 7.0 12" in page
    assert "pass seeds=2 to separate them" in page


def test_one_split_declares_nothing_and_says_what_to_do():
    rows = [row("mog", 0.0, splits=1), row("normal", -90.0, splits=1)]
    page = printed(rows)
    assert "One split does not show that it is better" in page
    assert "over cells and seeds of one split only" in page and "pass splits=5" in page
    assert " tie " not in page and "Nadeau" not in page


@pytest.mark.parametrize(
    "others, sentence",
    [
        ([("normal", -2.4, False)], "Best: mog, chosen on validation cells, better on test cells"),
        ([("normal", -2.4, False), ("vamp", -0.1, True)], "Not better on test cells: vamp."),
        ([("normal", 3.0, False)], "Not better on test cells: normal."),
    ],
)
def test_the_winner_is_better_than_every_other_row_or_is_none(others, sentence):
    rows = [row("mog", 0.0), *(row(prior, diff, tie=tie) for prior, diff, tie in others)]
    assert sentence in best(rows)


def test_each_measure_has_a_sentence_of_its_own():
    other = [row(prior, diff, measure="detection") for prior, diff in (("vamp", 0.0), ("mog", -1))]
    page = printed([row("mog", 0.0), row("normal", -2.4), *other])
    assert page.count("chosen on validation cells") == 2 and "not compared" in page
    assert best([row("mog", 0.0)]) == ""


@pytest.mark.parametrize("splits", [1, 5])
def test_a_picture_is_drawn(splits):
    rows = [row("mog", 0.0, splits=splits), row("normal", -2.4, splits=splits)]
    assert comparison_picture(rows).startswith(b"\x89PNG")
