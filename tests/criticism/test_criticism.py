"""Criticising a run: its sections, what cannot be measured, what an AnnData gets, the page."""

import base64
import importlib.util
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from markupsafe import Markup
from rich.console import Console

import pgm_expr
from pgm_expr import report
from pgm_expr.cli import main as cli
from pgm_expr.criticism.criticize import criticize
from pgm_expr.criticism.pages import criticism_page, html_report
from pgm_expr.criticism.section import BAD, DOUBTFUL, GOOD
from pgm_expr.criticism.sections import SECTIONS
from pgm_expr.criticism.verdict import headline, verdict
from pgm_expr.report import Table
from pgm_expr.runs.folder import LATENT

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")

BY_NAME = {section.name: section for section in SECTIONS}
JUDGED = [section for section in SECTIONS if callable(section.judge)]
OPTIONAL = {"mixing"} - ({"mixing"} if importlib.util.find_spec("scib_metrics") else set())


def on_terminal(page):
    console = Console(file=io.StringIO(), width=200, highlight=False)
    console.print(page)
    return console.file.getvalue()


def of_section(name, found):
    """What was found, skipping what an optional package is needed for."""
    if name not in found:
        pytest.skip(found["not_measured"][name])
    return found[name]


def test_every_section_is_measured(found):
    assert {*found["not_measured"]} == OPTIONAL
    assert {section.name for section in SECTIONS} - OPTIONAL <= {*found}
    assert found["cells"] == 102


def test_nuts_judges_the_guide_of_a_few_cells(found):
    row = found["reference"]
    assert len(row["cells"]) == 4 and row["draws"] == 400 and row["rhat"] < 1.5
    for which in ("guide", "refined"):
        assert 0.5 < row[which]["covers_0.9"] <= 1 and 0.5 < row[which]["width"] < 1.5
    assert row["refined"]["shift"] < row["guide"]["shift"]


def test_a_story_that_is_not_trained_draws_its_prior(adata, tmp_path):
    run = pgm_expr.fit(adata, epochs=0, latent=2, hidden=8, progress=False, out=tmp_path / "run")
    assert run.history == [] and pgm_expr.load(tmp_path / "run").notes["plan"]["epochs"] == 0
    rows = {
        row["check"]: row for row in run.criticize(adata, sections=["ppc"])["ppc"]["prior_rows"]
    }
    assert rows["correlation"]["drawn"] > 2 * rows["correlation"]["floor"]
    assert "Not trained" in report.fit_page(run.notes, run.history)


def test_a_missing_package_is_named(found):
    said = "scib-metrics is not installed: pip install scib-metrics."
    assert [*found["not_measured"].values()] == [said for _ in OPTIONAL]


def test_bounds_are_in_order(found):
    row = found["heldout"]
    assert row["elbo"] < row["iwae"] < row["iwae_4k"]
    assert found["health"]["iwae_gap"] == pytest.approx(row["iwae_4k"] - row["elbo"], abs=1e-6)


def test_the_same_cells_give_the_same_plain_data(found, folder):
    """Whatever other sections were requested; Python gives what the command wrote."""
    run, some = pgm_expr.load(folder / "run"), ["typicality", "heldout", "markers", "novelty"]
    again = criticize(run, draws=200, sections=some)
    assert all(again[name] == found[name] for name in some)
    assert json.loads(json.dumps(again)) == again


def test_at_most_so_many_cells_are_judged(folder):
    run = pgm_expr.load(folder / "run")
    assert run.criticize(cells=30, draws=100, sections=["typicality"])["cells"] == 30


def test_probes_predict_types_but_not_age(found):
    """The types differ; a batch is given to the decoder, and age is noise: p above 0.005 / 4."""
    rows = {(row["what"], row["probe"]): row for row in found["structure"]}
    what = ("label", "batch within label", "age within label", "log library within label")
    assert {*rows} == {(each, probe) for each in what for probe in ("linear", "k-NN")}
    for probe in ("linear", "k-NN"):
        assert rows["label", probe]["score"] > 0.9 and rows["label", probe]["p"] < 0.01
        assert rows["age within label", probe]["p"] > 0.005
        assert rows["age within label", probe]["measure"] == "R2"


def test_types_explain_most_of_the_variance_of_states(found):
    rows = {row["what"]: row for row in found["explained"]["rows"]}
    assert [*rows] == ["label", "batch", "age", "log library"]
    assert rows["label"]["alone"]["score"] > 0.4 and rows["label"]["beyond"]["p"] < 0.01
    assert rows["age"]["alone"]["score"] < 0.1 and rows["age"]["beyond"]["p"] > 0.005
    together = found["explained"]["together"]["score"]
    assert max(row["alone"]["score"] for row in rows.values()) < together < 1


def test_novel_cells_are_the_farthest(found):
    row = found["novelty"]
    far, named = sorted(row["by_cell"]["novelty_neighbours"])[::-1], row["most_novel"]
    assert [each["neighbours"] for each in named] == far[:10]
    assert row["share_beyond_99"] < 0.1  # binomial(102, .01): above 8 once in a million


def test_markers_are_expressed_in_cells_drawn_for_their_label(found):
    assert [row["label"] for row in found["markers"]] == ["type0", "type1", "type2"]
    for row in found["markers"]:
        assert abs(row["drawn"] - row["held_out"]) < 0.15 and 0 < row["se"] < 0.1


def test_what_cannot_be_measured_says_why(adata):
    run = pgm_expr.fit(adata[:200].copy(), epochs=2, latent=2, hidden=8, progress=False)
    given = ["structure", "explained", "mixing", "markers", "two_sample", "differential"]
    found = criticize(run, draws=100, sections=given)
    why = found["not_measured"]
    assert "100 cells a side: got 40" in why["two_sample"]
    for name in ("mixing", "markers", "differential"):
        assert "got none" in why[name] and "_key to fit" in why[name]
    assert {row["what"] for row in found["structure"]} == {"log library"}
    assert [row["what"] for row in found["explained"]["rows"]] == ["log library"]
    assert not {*why} & {*found}


def test_a_probe_of_too_few_cells_says_why(adata):
    """40 held-out cells are enough for labels, not for numbers within three labels."""
    keys = dict(labels_key="type", epochs=2, latent=2, hidden=8, progress=False)
    found = criticize(pgm_expr.fit(adata[:200].copy(), **keys), draws=100, sections=["structure"])
    rows = {row["what"]: row for row in found["structure"]}
    assert {*rows} == {"label", "log library within label"}
    assert "score" in rows["label"] and "why" not in rows["label"]
    assert "no group has 20 training and 20 test" in rows["log library within label"]["why"]


def test_an_unknown_section_is_refused(folder):
    with pytest.raises(ValueError, match="unknown section 'heath'. Did you mean 'health'"):
        criticize(pgm_expr.load(folder / "run"), sections=["heath"])


def test_an_anndata_gets_the_figures_of_its_cells(folder, adata):
    data = adata.copy()
    run = pgm_expr.load(folder / "run")
    found = run.criticize(data, draws=100, sections=["health", "typicality", "novelty"])
    column = data.obs["pgm_vae_pareto_k"]
    assert column.notna().sum() == found["cells"] and data.obs["pgm_vae_typicality_p"].max() <= 1
    worst = found["health"]["worst_cells"][0]
    assert data.obs.loc[worst["cell"], "pgm_vae_gap"] == pytest.approx(worst["gap"])
    most = found["novelty"]["most_novel"][0]
    assert data.obs["pgm_vae_novelty_neighbours"].idxmax() == most["cell"]
    assert data.uns["pgm_vae_health"]["active_units"] <= 3


def test_to_arviz_names_cells_and_genes(folder, adata):
    run = pgm_expr.load(folder / "run")
    genes = list(adata.var_names[:5])
    data = run.to_arviz(cells=10, genes=genes, draws=7)
    assert data.posterior_predictive["x"].shape == (1, 7, 10, 5)
    assert list(data.observed_data["gene"].values) == genes
    cell = str(data.observed_data["cell"].values[3])
    expected = np.asarray(adata[cell, genes].X.todense()).ravel()
    assert np.array_equal(data.observed_data["x"].sel(cell=cell), expected)
    with pytest.raises(ValueError, match="genes unknown to the fit: 'XIST'"):
        run.to_arviz(genes=["XIST"])


def test_loo_pit_is_of_half_the_counts_of_a_cell(folder, adata):
    run = pgm_expr.load(folder / "run")
    genes = list(adata.var_names[:5])
    given = run.loo_pit(cells=20, genes=genes, draws=30)
    if "dt" in given:  # ArviZ 1.x takes the values themselves
        (values,) = given["dt"][given["group"]].to_dataset().data_vars.values()
        assert values.size == 20 * 5 and ((values >= 0) & (values <= 1)).all()
    else:
        assert given["y"].shape == (20, 5) and given["y_hat"].shape == (20, 5, 31)
        whole = run.to_arviz(cells=20, genes=genes, draws=1).observed_data["x"].values
        assert (np.floor(given["y"]) <= whole).all() and given["y"].sum() < 0.7 * whole.sum()
    with pytest.raises(ValueError, match="genes unknown to the fit: 'XIST'"):
        run.loo_pit(genes=["XIST"])


@pytest.mark.parametrize("name", BY_NAME)
def test_what_was_found_is_on_all_pages(name, found):
    section, row = BY_NAME[name], of_section(name, found)
    parts = section.page(row)
    assert parts and all(isinstance(part, str | Table) for part in parts)
    terminal, page = on_terminal(criticism_page(found)), section.html(row)
    assert section.question in terminal
    assert all(on_terminal(part).strip() in terminal for part in parts if isinstance(part, Table))
    assert isinstance(page, Markup) and page.count("<") == page.count(">") > 1


@pytest.mark.parametrize("section", JUDGED, ids=lambda section: section.name)
def test_a_verdict_is_a_topic_a_finding_and_a_rule(section, found):
    sentence = section.judge(of_section(section.name, found))
    topic, _, text = sentence.text.partition(": ")
    assert sentence.mark in (GOOD, DOUBTFUL, BAD) and topic and text.endswith(".")
    assert sentence.rule and not sentence.rule.endswith(".")
    assert sentence in verdict(found)


@pytest.mark.parametrize("name", BY_NAME)
def test_figures_of_cells_and_summaries_are_stated(name, found):
    section, row = BY_NAME[name], of_section(name, found)
    entries = row if isinstance(row, dict) else {}
    by_cell = entries.get("by_cell", {})
    assert section.by_cell == (*by_cell,) and {*section.summary} <= {*entries}
    assert all(len(values) == found["cells"] for values in by_cell.values())


def type_in(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main([str(a) for a in arguments])
    return stop.value.code or 0, *capsys.readouterr()


class TestCommandLine:
    def test_criticize_names_the_worst_cells_and_keeps_the_figures(self, folder, printed, found):
        assert json.loads((folder / "figures.json").read_text()) == found
        assert found["health"]["worst_cells"][0]["cell"] in printed
        assert found["novelty"]["most_novel"][0]["cell"] in printed
        assert all(section.question in printed for section in SECTIONS if section.name in found)
        width = f"{found['reference']['guide']['width']:.2f}"
        assert "NUTS on 4 cells" in printed and width in printed
        assert headline(verdict(found)) in printed

    def test_sbc_and_ppc_print_their_own(self, folder, capsys):
        code, said, _ = type_in(capsys, "sbc", folder / "run")
        assert code == 0 and "max |coverage - nominal|" in said and "Pareto" not in said
        code, said, _ = type_in(capsys, "ppc", folder / "run")
        assert code == 0 and "zero rate" in said and "randomised PITs" in said

    def test_report_writes_one_page_of_two_runs(self, folder, found, capsys):
        """The picture of states in the folder is taken as it is."""
        picture = report.training_picture(pgm_expr.load(folder / "run").history)
        (folder / "run" / LATENT).write_bytes(picture)
        page = folder / "page.html"
        code, said, _ = type_in(capsys, "report", folder / "run", folder / "run", "--out", page)
        assert code == 0 and f"Wrote {page}" in said
        text = page.read_text()
        check_page(text)
        assert text.count(base64.b64encode(picture).decode()) == 4  # training curves as well
        assert text.count("age within label") == 4  # two probes a run
        assert text.count(found["novelty"]["most_novel"][0]["cell"]) >= 2
        assert text.count("Not measured") == 2 * len(OPTIONAL)

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
        text = html_report([given])
        assert "<b>mine</b>" not in text and "&lt;b&gt;mine" in text
        assert "Not measured: its &lt;reason&gt;" in text and "Nothing was judged" in text
        assert text.count("Not measured") >= 6
        check_page(text)


class TestWords:
    def test_verdicts_follow_their_rules(self, found):
        marks = {s.text.split(":")[0]: s.mark for s in verdict(found)}
        judged = [s.name for s in SECTIONS if callable(s.judge) and s.name in found]
        assert len(marks) == len(judged) and {*marks.values()} <= {"good", "doubtful", "bad"}

    def test_a_two_sample_test_is_judged_against_its_floor(self, found):
        row = found["two_sample"]
        for auc, mark in ((0.53, GOOD), (0.9, BAD)):
            (sentence,) = verdict({"two_sample": row | {"auc": auc, "auc_floor": 0.5}})
            assert sentence.mark == mark and f"{auc:.3f}" in sentence.text

    def test_flagged_ranks_are_judged(self, found):
        right = found["sbc"] | {"flagged": [], "pooled_error": 0.01}
        assert verdict({"sbc": right})[0].mark == GOOD
        assert verdict({"sbc": right | {"flagged": ["z[0]"], "pooled_error": 0.2}})[0].mark == BAD

    def test_calibrated_bins_are_counted(self, found):
        row = found["calibration"]
        bins = [each | {"holds": i == 0} for i, each in enumerate(row["rows"] * 2)]
        (sentence,) = verdict({"calibration": row | {"rows": bins}})
        assert sentence.mark == BAD and f"1 of {len(bins)} bins" in sentence.text

    def test_markers_that_are_off_are_named(self):
        rows = [dict(label=f"t{i}", drawn=0.8, held_out=0.8, se=0.02) for i in range(4)]
        noisy = rows[:3] + [rows[3] | {"drawn": 0.6, "se": 0.11}]
        one, two = (rows[i:] + [rows[0] | {"drawn": 0.6}] * i for i in (1, 2))
        for some, mark in ((rows, GOOD), (noisy, GOOD), (one, DOUBTFUL), (two, BAD)):
            (sentence,) = verdict({"markers": some})
            assert sentence.mark == mark and ("t0" in sentence.text) == (mark != GOOD)

    def test_structure_is_judged_by_the_best_probe(self):
        def row(what, probe, score, p):
            return dict(what=what, probe=probe, score=score, chance=0.5, p=p)

        labels = [row("label", "linear", 0.5, 0.6), row("label", "k-NN", 0.9, 0.005)]
        mixed = [row("batch within label", probe, 0.52, 0.04) for probe in ("linear", "k-NN")]
        leaky = [mixed[0], row("batch within label", "k-NN", 0.7, 0.005)]
        unknown = [{"what": "batch within label", "probe": "linear", "why": "too few"}]
        depth = [row("log library within label", "linear", 0.4, 0.005)]
        cases = [(labels, GOOD), (labels[:1], BAD), (labels + mixed, GOOD), (labels + leaky, BAD)]
        for rows, mark in [*cases, (labels + unknown + depth, GOOD)]:
            (sentence,) = verdict({"structure": rows})
            assert sentence.mark == mark and "label 0." in sentence.text
        assert verdict({"structure": depth + unknown}) == []

    def test_rows_of_earlier_runs_are_understood(self):
        rows = [{"what": "label", "score": 0.9, "chance": 0.5, "p": 0.005}]
        (sentence,) = verdict({"structure": rows})
        assert sentence.mark == GOOD

    def test_the_headline_names_the_topics(self, found):
        said = headline(verdict(found))
        assert said.endswith(".") and "Posteriors of states" in said
        assert headline([]) == "Nothing was judged."
