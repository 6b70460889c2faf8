"""Criticising a run: its sections, what cannot be measured, what an AnnData gets, the page."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest

import pgm_expr
from pgm_expr import cli, report, simulate
from pgm_expr.api import SECTIONS, criticize
from pgm_expr.report.words import BAD, GOOD, headline, verdict

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")


@pytest.fixture(autouse=True)
def plain_warnings(monkeypatch):
    import warnings

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


@pytest.fixture(scope="module")
def adata():
    truth = simulate.simulate(600, 60, seed=0, types=3, batches=2, median_library=3000.0)
    return truth.to_anndata()


@pytest.fixture(scope="module")
def folder(adata, tmp_path_factory):
    place = tmp_path_factory.mktemp("criticism")
    adata.write_h5ad(place / "cells.h5ad")
    keys = dict(labels_key="type", batch_key="batch", epochs=30, progress=False)
    pgm_expr.fit(place / "cells.h5ad", latent=3, hidden=16, out=place / "run", **keys)
    return place


@pytest.fixture(scope="module")
def told(folder):
    return criticize(pgm_expr.load(folder / "run"), draws=200)


def test_every_section_is_measured_and_is_plain_data(told):
    assert told["not_measured"] == {} and {*SECTIONS} <= {*told}
    assert json.loads(json.dumps(told)) == told
    assert told["cells"] == 120


def test_bounds_are_in_order(told):
    row = told["heldout"]
    assert row["elbo"] < row["iwae"] < row["iwae_4k"]
    assert told["health"]["iwae_gap"] == pytest.approx(row["iwae_4k"] - row["elbo"], abs=1e-6)


def test_the_same_cells_give_the_same_figures(told, folder):
    run = pgm_expr.load(folder / "run")
    again = criticize(run, draws=200, sections=["heldout", "typicality"])
    assert again["heldout"] == told["heldout"] and again["typicality"] == told["typicality"]


def test_at_most_so_many_cells_are_judged(folder):
    assert pgm_expr.load(folder / "run").criticize(cells=30, draws=100)["cells"] == 30


def test_what_cannot_be_measured_says_why(adata):
    run = pgm_expr.fit(adata[:200].copy(), epochs=2, latent=2, hidden=8, progress=False)
    told = criticize(run, draws=100, sections=["structure", "two_sample", "differential"])
    assert "fit with labels_key or batch_key" in told["not_measured"]["structure"].lower()
    assert "100 cells a side: got 40" in told["not_measured"]["two_sample"]
    assert not {"structure", "two_sample", "differential"} & {*told}


def test_an_unknown_section_is_refused(folder):
    with pytest.raises(ValueError, match="unknown section 'heath'. Did you mean 'health'"):
        criticize(pgm_expr.load(folder / "run"), sections=["heath"])


def test_an_anndata_gets_the_figures_of_its_cells(folder, adata):
    data = adata.copy()
    run = pgm_expr.load(folder / "run")
    told = run.criticize(data, draws=100)
    column = data.obs["pgm_vae_pareto_k"]
    assert column.notna().sum() == told["cells"] and data.obs["pgm_vae_typicality_p"].max() <= 1
    worst = told["health"]["worst_cells"][0]
    assert data.obs.loc[worst["cell"], "pgm_vae_gap"] == pytest.approx(worst["gap"])
    assert data.uns["pgm_vae_health"]["active_units"] <= 3


def test_differential_expression_of_two_types(folder, adata):
    run = pgm_expr.load(folder / "run")
    table = run.differential_expression(adata, "type", "type1", "type0", draws=20)
    assert list(table.columns) == ["mean", "sd", "low", "high", "probability", "called"]
    assert (table["low"] <= table["mean"]).all() and table["called"].any()
    with pytest.raises(ValueError, match="no cell has type 'b cell'. Known: type0, type1"):
        run.differential_expression(adata, "type", "b cell", "type0")
    with pytest.raises(ValueError, match="'kind' is not a column of obs"):
        run.differential_expression(adata, "kind", "type1", "type0")


def test_to_arviz_names_cells_and_genes(folder, adata):
    run = pgm_expr.load(folder / "run")
    genes = list(adata.var_names[:5])
    data = run.to_arviz(cells=10, genes=genes, draws=7)
    assert data.posterior_predictive["x"].shape == (1, 7, 10, 5)
    assert list(data.observed_data["gene"].values) == genes
    cell = str(data.observed_data["cell"].values[3])
    expected = np.asarray(adata[cell, genes].X.todense()).ravel()
    assert np.array_equal(data.observed_data["x"].sel(cell=cell), expected)
    with pytest.raises(ValueError, match="knows no gene 'XIST'"):
        run.to_arviz(genes=["XIST"])


def test_loo_pit_is_of_half_the_counts_of_a_cell(folder, adata):
    run = pgm_expr.load(folder / "run")
    genes = list(adata.var_names[:5])
    given = run.loo_pit(cells=20, genes=genes, draws=30)
    assert given["y"].shape == (20, 5) and given["y_hat"].shape == (20, 5, 31)
    whole = run.to_arviz(cells=20, genes=genes, draws=1).observed_data["x"].values
    assert (np.floor(given["y"]) <= whole).all() and given["y"].sum() < 0.7 * whole.sum()
    with pytest.raises(ValueError, match="knows no gene 'XIST'"):
        run.loo_pit(genes=["XIST"])


def type_in(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main([str(a) for a in arguments])
    return stop.value.code or 0, *capsys.readouterr()


class TestCommandLine:
    def test_criticize_names_the_worst_cells_and_keeps_the_figures(self, folder, capsys):
        run, figures = folder / "run", folder / "figures.json"
        code, said, _ = type_in(capsys, "criticize", run, "--draws", 200, "--json", figures)
        told = json.loads(figures.read_text())
        assert code == 0 and told["health"]["worst_cells"][0]["cell"] in said
        assert json.loads((run / "criticism.json").read_text()) == told

    def test_sbc_and_ppc_print_their_own(self, folder, capsys):
        code, said, _ = type_in(capsys, "sbc", folder / "run")
        assert code == 0 and "max |coverage - nominal|" in said and "Pareto" not in said
        code, said, _ = type_in(capsys, "ppc", folder / "run")
        assert code == 0 and "zero rate" in said and "randomised PITs" in said

    def test_report_writes_one_page_of_two_runs(self, folder, capsys):
        page = folder / "page.html"
        code, said, _ = type_in(capsys, "report", folder / "run", folder / "run", "--out", page)
        assert code == 0 and f"Wrote {page}" in said
        check_page(page.read_text())

    def test_a_page_must_be_html(self, folder, capsys):
        code, _, said = type_in(capsys, "report", folder / "run", "--out", folder / "page.pdf")
        assert code == 2 and "must end in .html" in said

    def test_no_run_is_one_line(self, folder, capsys):
        for command in ("criticize", "ppc", "sbc", "report"):
            code, _, said = type_in(capsys, command, folder / "nothing")
            assert code == 2 and said.count("\n") == 1 and "not a run" in said


def check_page(text):
    """Well-formed enough to be read, and nothing is loaded from elsewhere."""
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            found.extend((tag, n, v) for n, v in attributes if n in ("src", "href"))
            assert tag not in ("script", "link")

    Reader().feed(text)
    assert found and all(value.startswith("data:image/png") for _, _, value in found)
    assert "Verdict" in text and text.rstrip().endswith("</html>")


class TestPage:
    def test_names_are_escaped_and_missing_sections_say_so(self, folder):
        run = pgm_expr.load(folder / "run")
        missing = {"not_measured": {"sbc": "its <reason>"}}
        given = dict(name="<b>mine</b>", notes=run.notes, history=run.history, criticism=missing)
        text = report.write_html([given])
        assert "<b>mine</b>" not in text and "&lt;b&gt;mine" in text
        assert "Not measured: its &lt;reason&gt;" in text and "Nothing was measured" in text
        assert text.count("Not measured") >= 6
        check_page(text)


class TestWords:
    def test_verdicts_follow_their_rules(self, told):
        marks = {s.text.split(":")[0]: s.mark for s in verdict(told)}
        assert len(marks) == 8 and set(marks.values()) <= {"good", "doubtful", "bad"}

    def test_a_two_sample_test_is_judged_against_its_floor(self, told):
        row = told["two_sample"]
        for auc, mark in ((0.53, GOOD), (0.9, BAD)):
            (sentence,) = verdict({"two_sample": row | {"auc": auc, "auc_floor": 0.5}})
            assert sentence.mark == mark and f"{auc:.3f}" in sentence.text

    def test_flagged_ranks_are_no_good(self, told):
        right = told["sbc"] | {"flagged": [], "pooled_error": 0.01}
        assert verdict({"sbc": right})[0].mark == GOOD
        assert verdict({"sbc": right | {"flagged": ["z[0]"], "pooled_error": 0.2}})[0].mark == BAD

    def test_bins_that_do_not_hold_are_counted(self, told):
        row = told["calibration"]
        bins = [each | {"holds": i == 0} for i, each in enumerate(row["rows"] * 2)]
        (sentence,) = verdict({"calibration": row | {"rows": bins}})
        assert sentence.mark == BAD and f"1 of {len(bins)} bins" in sentence.text

    def test_the_headline_says_what_holds(self, told):
        said = headline(verdict(told))
        assert said.endswith(".") and "Posteriors of states" in said
        assert headline([]) == "Nothing was measured."
