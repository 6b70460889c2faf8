"""Slow: what users get with the defaults, on simulated truth, on real counts, and when killed."""

import random
import signal
import subprocess
import sys

import numpy as np
import pytest

import pgm_expr
from pgm_expr.simulate import simulate

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", [0, 1])
def test_dispersions_are_found_with_the_defaults(seed):
    truth = simulate(2000, 100, seed=seed, median_library=2000.0)
    run = pgm_expr.fit(truth.to_anndata(), progress=False)
    found = run.model.likelihood.log_dispersion.detach().numpy()
    assert np.corrcoef(found, truth.log_dispersion)[0, 1] > 0.9


@pytest.mark.parametrize("split, least", [(0, -671.0), (1, -678.0)])
def test_the_embedded_cells_are_explained(split, least):
    """Held-out IWAE-500, KL, and the distance to both baselines in paired standard errors."""
    run = pgm_expr.fit(
        "pbmc68k_reduced", labels_key="bulk_labels", split_seed=split, progress=False
    )
    metrics = run.evaluate()
    gaps = {row["model"]: row for row in metrics["table"] if "story_minus" in row}
    assert metrics["heldout_iwae"] > least and metrics["kl"] > 5
    assert {"gene_nb", "label_nb"} == set(gaps)
    assert all(row["story_minus"] > 2 * row["paired_se"] for row in gaps.values())


SCRIPT = """
import sys, pgm_expr
pgm_expr.fit("pbmc68k_reduced", epochs=150, out=sys.argv[1], progress=False, checkpoint_seconds=.2)
"""


def start(folder):
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", SCRIPT, str(folder)])


def test_killed_at_ten_random_moments_the_run_ends_bit_for_bit_the_same(tmp_path):
    assert start(tmp_path / "whole").wait() == 0
    moments, killed = random.Random(0), 0
    while not (tmp_path / "killed" / "model.safetensors").exists():
        process = start(tmp_path / "killed")
        try:
            process.wait(moments.uniform(1, 7) if killed < 10 else None)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
    assert killed > 3
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert files[0] == files[1]
    assert not list((tmp_path / "killed").glob(".*-*"))
