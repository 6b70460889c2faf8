"""Training throughput of the vae story and of SCVI (scvi-tools) with the same architecture.

    make bench && .venv/bin/python benchmarks/throughput.py

Both train on the same simulated cells (20,000 x 2,000, about 10% non-zero) with one hidden layer
of 128, 10 latents, an NB likelihood, batches of 128, the loader of each package, and no
validation. The two sides take turns. Only whole epochs after the first of each turn are timed,
which excludes start-up and compilation. The last line is the ratio of cells per second: median
(min .. max) over the turns.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
import warnings

import numpy as np
import torch

from pgm_expr.data import Cells, epoch
from pgm_expr.guides import VAEGuide
from pgm_expr.inference import MeanField, Plan, fit
from pgm_expr.models import VAE
from pgm_expr.simulate import simulate

BATCH = 128


class Ours:
    """Epochs of the vae story with our engine."""

    name = "pgm_expr vae"

    def __init__(self, adata, device):
        self.cells = Cells(adata.X).to(device)
        self.index = np.arange(adata.n_obs)
        genes = adata.n_vars
        self.objective = MeanField(VAE(genes), VAEGuide(genes), cells=adata.n_obs).to(device)

    def seconds(self, epochs):
        plan = Plan(epochs=epochs, batch_size=BATCH, warmup_epochs=0)
        batches = lambda seed: epoch(self.cells, self.index, BATCH, seed)  # noqa: E731
        return ticks(fit(self.objective, batches, None, plan))


class Peer:
    """Epochs of SCVI with the trainer of scvi-tools."""

    name = "scvi-tools SCVI"

    def __init__(self, adata, device):
        import scvi

        scvi.settings.verbosity = logging.ERROR
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        scvi.model.SCVI.setup_anndata(adata)
        self.model = scvi.model.SCVI(
            adata, n_layers=1, n_hidden=128, n_latent=10, gene_likelihood="nb"
        )
        self.accelerator = "gpu" if device == "cuda" else "cpu"

    def seconds(self, epochs):
        from lightning.pytorch.callbacks import Callback

        class Clock(Callback):
            ends = []

            def on_train_epoch_end(self, *_):
                self.ends.append(time.perf_counter())

        clock = Clock()
        self.model.train(
            max_epochs=epochs,
            batch_size=BATCH,
            train_size=1.0,
            accelerator=self.accelerator,
            enable_progress_bar=False,
            callbacks=[clock],
        )
        return np.diff(clock.ends).tolist()


def ticks(rows):
    """Seconds between one row and the next."""
    ends = [time.perf_counter() for _ in rows]
    return np.diff(ends).tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4, help="a turn; the first is not timed")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    truth = simulate(options.cells, options.genes, seed=0, median_library=400.0)
    adata = truth.to_anndata()
    print(f"{adata.n_obs:,} x {adata.n_vars:,}, {adata.X.nnz / np.prod(adata.shape):.1%} non-zero")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.device}")
    sides = [Ours(adata, options.device), Peer(adata, options.device)]
    rates = {side.name: [] for side in sides}
    for turn in range(options.turns):
        for side in sides if turn % 2 else reversed(sides):
            seconds = statistics.mean(side.seconds(options.epochs))
            whole = len(adata) // BATCH * BATCH if side.name == Ours.name else len(adata)
            rates[side.name].append(whole / seconds)
            print(
                f"turn {turn + 1}: {side.name:16s} {rates[side.name][-1]:8,.0f} cells/s",
                flush=True,
            )
    ratios = [ours / peer for ours, peer in zip(*rates.values(), strict=True)]
    low, high = min(ratios), max(ratios)
    print(f"ratio {statistics.median(ratios):.2f} ({low:.2f} .. {high:.2f})")


if __name__ == "__main__":
    main()
