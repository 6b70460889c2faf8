"""The page of a report in a real browser: on a laptop, on a narrow screen and on paper."""

import html
import io
import re
import shutil
import subprocess

import pytest
from matplotlib.image import imread

import pgm_expr
from pgm_expr.criticism.pages import html_report
from pgm_expr.criticism.sections import SECTIONS
from pgm_expr.criticism.verdict import headline, verdict
from pgm_expr.simulate import simulate

NAMES = "chromium", "chromium-browser", "google-chrome"
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason=f"none of {', '.join(NAMES)} is installed"),
    pytest.mark.filterwarnings("ignore:posterior collapse"),
]
WIDE = """<script>
const wide = (e) => e.scrollWidth > e.clientWidth;
document.body.dataset.page = wide(document.documentElement);
document.body.dataset.sections = [...document.querySelectorAll(".runs > section")].some(wide);
</script></body>"""


@pytest.fixture(scope="module")
def run():
    """A small run as a report takes it."""
    with pytest.MonkeyPatch.context() as patch:
        import warnings

        patch.setattr(warnings, "showwarning", warnings.showwarning)
        adata = simulate(400, 40, seed=0, types=3, batches=2, median_library=1000.0).to_anndata()
        keys = dict(labels_key="type", batch_key="batch", epochs=3, progress=False)
        fitted = pgm_expr.fit(adata, latent=3, hidden=8, **keys)
        quick = [each.name for each in SECTIONS if each.name != "reference"]  # NUTS takes long
        found = fitted.criticize(cells=60, draws=100, sections=quick)
        notes = {key: value for key, value in fitted.notes.items() if key != "genes"}
        given = dict(notes=notes, history=fitted.history, metrics=fitted.evaluate())
    return dict(name="runs/first", criticism=found, latent_png=None, **given)


@pytest.fixture(scope="module", params=[1, 2])
def text(request, run):
    """Of one run, or of two side by side."""
    return html_report([run, run | {"name": "runs/second"}][: request.param])


@pytest.fixture
def page(text, tmp_path):
    place = tmp_path / "page.html"
    place.write_text(text)
    return place


def browse(page, *options):
    flags = "--headless=new --no-sandbox --disable-gpu --hide-scrollbars".split()
    profile = f"--user-data-dir={page.parent / 'profile'}"
    command = [CHROMIUM, *flags, profile, *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, timeout=120, check=True).stdout.decode()


@pytest.mark.parametrize("height", [768, 5000])
def test_a_laptop_shows_a_page_that_is_not_blank(page, height):
    picture = page.with_suffix(".png")
    browse(page, f"--window-size=1366,{height}", f"--screenshot={picture}")
    image = imread(io.BytesIO(picture.read_bytes()), format="png")[..., :3]
    assert image.shape[:2] == (height, 1366)
    dark = image.mean(-1) < 0.5
    assert 0.005 < dark.mean() < 0.3 and dark[:, :20].mean() == dark[:, -20:].mean() == 0
    colourful = image.max(-1) - image.min(-1) > 0.3  # marks of the verdict, pictures
    assert 0.001 < colourful.mean() < 0.3


@pytest.mark.parametrize("width", [1366, 700])
def test_nothing_is_wider_than_the_screen(page, text, width):
    page.write_text(text.replace("</body>", WIDE))
    dom = browse(page, f"--window-size={width},768", "--dump-dom")
    assert 'data-page="false"' in dom
    assert width < 1366 or 'data-sections="false"' in dom  # on a narrow screen tables scroll


def test_the_verdict_is_there_and_each_picture_is_drawn(page, text, run):
    """A picture that the browser cannot read has no width."""
    drawn = "<script>document.body.dataset.drawn = [...document.images].every(i => i.naturalWidth)"
    page.write_text(text.replace("</body>", f"{drawn}</script></body>"))
    dom = html.unescape(browse(page, "--dump-dom"))
    assert headline(verdict(run["criticism"])) in dom
    assert all(sentence.text in dom for sentence in verdict(run["criticism"]))
    assert 'data-drawn="true"' in dom


def test_it_prints_on_a4(page, text):
    paper = page.with_suffix(".pdf")
    browse(page, "--no-pdf-header-footer", f"--print-to-pdf={paper}")
    found = paper.read_bytes()
    sizes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", found)
    several = "runs/second" in text
    assert found.startswith(b"%PDF") and 3 <= len(sizes) <= 20
    width, height = (float(side) for side in sizes[0])
    assert sorted([width, height]) == pytest.approx([595, 842], abs=2)
    assert (width > height) == several  # side by side on landscape paper
