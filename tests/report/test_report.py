"""What a person sees: pictures that show something, pages with their figures, a quiet bar."""

import base64
import io
import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from rich.console import Console

from pgm_expr import report, zoo
from pgm_expr.cli import main as cli
from pgm_expr.report.pictures import UNLABELLED

METRICS = {
    "heldout_elbo": -123.456,
    "heldout_iwae": -120.25,
    "heldout_iwae_se": 1.75,
    "heldout_iwae_2000": -119.5,
    "kl": 6.789,
    "active_units": 7,
    "zero_rate_mae": 0.0123,
    "posterior_zero_rate_mae": 0.0112,
    "zero_rate_floor": 0.0101,
    "cells_per_second": 12345.6,
    "table": [
        {"model": "story", "log_p": -120.25, "probe_macro_f1": 0.876},
        {"model": "gene_nb", "log_p": -130.5, "story_minus": 10.25, "paired_se": 0.55},
        {"model": "label_nb", "log_p": -118.0, "story_minus": -2.25, "paired_se": 0.45},
        {"model": "pca", "probe_macro_f1": 0.912},
    ],
}


def history(epochs, warmup=3):
    return [
        dict(
            epoch=e,
            beta=1.0 if e >= warmup else 0.5,
            train=100 - e,
            validation=-100 + e - 0.3 * max(e - 6, 0) ** 2 + 50 * (e == 1),
            skipped=0,
            seconds=2.0,
        )
        for e in range(epochs)
    ]


def pixels(png):
    """(height, width, 3) of a PNG, which the decoder of matplotlib reads whole."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return imread(io.BytesIO(png), format="png")[..., :3]


def share(image, colour):
    """Share of the pixels of a colour, given as hex."""
    wanted = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return (np.abs(image - wanted).max(-1) < 0.01).mean()


def text(renderable):
    console = Console(file=io.StringIO(), width=120)
    console.print(renderable)
    return console.file.getvalue()


def test_the_training_curve_is_drawn():
    image = pixels(report.training_picture(history(12)))
    assert image.shape[0] > 300 and image.shape[1] > 500
    for line in ("#1f77b4", "#ff7f0e"):  # matplotlib's first two
        assert 1e-4 < share(image, line) < 0.1
    assert share(image, "#ffffff") > 0.8
    other = pixels(report.training_picture(history(6)))
    assert (image != other).any()


def test_a_curve_of_one_epoch_is_drawn():
    assert pixels(report.training_picture(history(1, warmup=0))).std() > 0.01


@pytest.fixture
def latent():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 3)) + 20 * np.eye(3)[np.arange(60) % 3]


def test_the_latent_space_is_coloured_by_label(latent):
    labels = np.array(["a", "b", "unlabelled"])[np.arange(60) % 3]
    image = pixels(report.latent_picture(latent, labels))
    for colour in ("#4477aa", "#ee6677", UNLABELLED):
        assert share(image, colour) > 2e-4
    assert share(image, "#228833") == 0  # no third label
    alone = pixels(report.latent_picture(latent, None))
    assert share(alone, "#4477aa") > 2e-4 and share(alone, "#ee6677") == 0


def test_a_latent_picture_has_a_seed(latent):
    labels = ["a"] * 60
    first, again, other = (report.latent_picture(latent, labels, seed=s) for s in (0, 0, 1))
    assert first == again != other


def test_a_picture_leaves_the_threads_of_torch(latent):
    """Numba, which umap runs on, sets OpenMP's number for the whole process."""
    torch.set_num_threads(1)
    report.latent_picture(latent, None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert threads == 1


def test_pictures_of_a_run_are_its_curve_and_its_states(fitted):
    pictures = fitted("vae").pictures()
    assert list(pictures) == ["training.png", "latent.png"]
    assert all(pixels(png).std() > 0.01 for png in pictures.values())
    assert share(pixels(pictures["latent.png"]), "#4477aa") > 2e-4


@pytest.mark.filterwarnings("ignore:posterior collapse")  # of few epochs
def test_a_report_makes_the_picture_of_states_once(fitted, tmp_path, monkeypatch):
    """It is kept with the run, and the second report takes it from there."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # `main` sets its own
    folder, page = shutil.copytree(fitted.folder("vae"), tmp_path / "run"), tmp_path / "page.html"
    (folder / "criticism.json").write_text(json.dumps({"not_measured": {}}))
    made = []
    for _ in range(2):
        with pytest.raises(SystemExit) as stop:
            cli.main(["report", str(folder), "--out", str(page)])
        assert not stop.value.code
        made.append((folder / "latent.png").stat().st_mtime_ns)
    picture = (folder / "latent.png").read_bytes()
    assert made[0] == made[1] and pixels(picture).std() > 0.01
    assert base64.b64encode(picture).decode() in page.read_text()


def test_the_metrics_page_holds_the_figures():
    page = text(report.metrics_page(METRICS))
    words = "-123.46 -120.25 1.75 -119.50 6.79 7 0.0123 0.0112 0.0101 12,346".split()
    words += ["-130.50", "+10.25 ± 0.55", "-118.00", "-2.25 ± 0.45", "0.876", "0.912"]
    assert [word for word in words if word not in page] == []
    rows = {
        name: line
        for name in report.pages.NAMES.values()
        for line in page.splitlines()
        if name in line
    }
    assert "0.876" in rows["this run"] and "+10.25" in rows["per-gene NB"]
    assert "-2.25" in rows["per-label NB, given the label"]
    assert "0.912" in rows["PCA of the same dimension"]


def test_the_metrics_page_does_without_labels_and_speed():
    bare = METRICS | {"cells_per_second": None, "table": METRICS["table"][:2]}
    bare["table"] = [dict(model="story", log_p=-120.25), bare["table"][1]]
    page = text(report.metrics_page(bare))
    assert "per second" not in page and "None" not in page and "nan" not in page


def test_the_fit_page_names_the_epoch_kept():
    """The best since the warm-up: an outlier of the warm-up does not count."""
    notes = dict(story="vae", cells=dict(train=70, validation=8, test=22), dims=dict(genes=40))
    page = report.fit_page(notes, history(12))
    assert "100 cells x 40 genes: 70 for training, 8 validation, 22 test" in page
    assert "12 epochs in 24 s; kept epoch 8, validation ELBO -93.20" in page


def test_the_zoo_page_lists_everything():
    page = text(report.zoo_page(zoo.STORIES, zoo.PARTS, zoo.OBJECTIVES, zoo.REFUSED))
    parts = [name for named in zoo.PARTS.values() for name in named]
    for name in [*zoo.STORIES, *parts, *zoo.OBJECTIVES]:
        assert name in page
    for line in (
        "VAE of raw counts: one latent state per cell.",
        "Normal(0, I)",
        "refused: iwae, renyi with free_bits: ",
        "renyi with the story label: ",
    ):
        assert line in page
    assert not any(line.strip().endswith(tuple(zoo.OBJECTIVES)) for line in page.splitlines())
