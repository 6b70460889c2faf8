"""Is one dispersion per gene enough when one of two batches is noisier than the other?

python examples/dispersion_by_batch.py [--smoke]

A user-defined story in ten lines: `vae` with `batch` in its signature, so that the likelihood has
one dispersion per gene and batch. Both are fitted to simulated cells whose second batch has
dispersions smaller by a factor of 4, and compared on held-out cells.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import replace

import numpy as np
import pyro
from torch import Tensor

import pgm_expr
from pgm_expr.guides import VAEGuide
from pgm_expr.models import VAE
from pgm_expr.parts import NegativeBinomialByBatch
from pgm_expr.simulate import simulate


class VAEByBatch(VAE):
    """p(z) p(x | z, library, batch): the dispersions depend on the batch."""

    def __init__(self, genes: int, batches: int, average: Tensor | None = None) -> None:
        likelihood = NegativeBinomialByBatch(genes, batches, average)
        super().__init__(genes, average, likelihood=likelihood)

    def forward(self, library: Tensor, batch: Tensor, x: Tensor | None = None) -> Tensor:
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z", self.prior())  # (N, D)
            eta = self.decode(z)  # (N, G)
            return pyro.sample("x", self.likelihood(eta, library, batch), obs=x)  # (N, G)


STORIES = {"vae": "vae", "by batch": pgm_expr.Story(model=VAEByBatch, guide=VAEGuide)}


def noisier_second_batch(cells: int, genes: int):
    """Simulated cells; those of batch 1 have a quarter of the dispersion."""
    truth = simulate(cells, genes, seed=0, batches=2, median_library=3000.0)
    noisy = replace(truth, log_dispersion=truth.log_dispersion - np.log(4)).draw(1)
    return replace(truth, x=np.where(truth.batch[:, None] == 1, noisy, truth.x)).to_anndata()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few epochs, figures mean nothing")
    smoke = parser.parse_args().smoke
    adata = noisier_second_batch(*((200, 30) if smoke else (3000, 200)))
    quick = dict(epochs=3) if smoke else {}
    runs, figures = {}, {}
    for name, story in STORIES.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # posterior collapse in a smoke run
            runs[name] = pgm_expr.fit(
                adata, story, batch_key="batch", seed=0, progress=False, **quick
            )
            figures[name] = runs[name].evaluate()
        print(f"{name:10} held-out log p(x | library) {figures[name]['heldout_iwae']:9.2f}")
    first, second = runs["by batch"].model.likelihood.log_dispersion.detach().cpu().numpy()
    ratio = np.exp(np.median(first - second))
    print(f"dispersion of batch 0 over batch 1: {ratio:.2f} in the median gene; the truth is 4")


if __name__ == "__main__":
    main()
