"""Regimes found by the mixture story, and its held-out bound against a vae of equal size.

    .venv/bin/python benchmarks/mixture.py --seeds 0 1 2 3 4

1,500 simulated cells of three regimes and 200 genes. Regimes share the base expression and differ
in effects and in three loadings. One line per seed: adjusted Rand index of argmax q(y | x), of
k-means and of a mixture of Gaussians on ten principal components; then IWAE at K = 100 of both
stories in nats per test cell, and their paired difference with its standard error over cells.
"""

import argparse
from dataclasses import replace

import numpy as np
import torch
from anndata import AnnData
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

import pgm_expr
from pgm_expr.evaluation import agreement, iwae, pca, standard_error
from pgm_expr.simulate import Scales, simulate

REGIMES, CELLS, GENES, DRAWS = 3, 500, 200, 100


def regimes(seed):
    """The cells and the regime of each."""
    base = simulate(1, GENES, seed=100 * seed + REGIMES).base
    settings = dict(types=1, latent=3, dispersion=(2.0, 0.0), scales=Scales(type=0.5, latent=0.9))
    truths = (simulate(CELLS, GENES, seed=100 * seed + k, **settings) for k in range(REGIMES))
    x = [replace(t, base=base).draw(100 * seed + k) for k, t in enumerate(truths)]
    return AnnData(np.concatenate(x).astype(np.float32)), np.repeat(range(REGIMES), CELLS)


def size(run):
    return sum(p.numel() for half in (run.model, run.guide) for p in half.parameters())


def equally_wide(run):
    """The hidden units for which a vae has at least as many parameters as the mixture."""
    latent = run.notes["options"]["latent"]
    one = 2 * GENES + 1 + 3 * latent  # weights of a unit of decoder and encoder, and its bias
    return -(-(size(run) - 2 * GENES - 2 * latent) // (one + 1))


def log_p(run):
    return iwae(run.model, run.guide, [run.table.cells.rows(run.table.split.test)], [DRAWS])[DRAWS]


def row(seed, settings):
    adata, known = regimes(seed)
    mixture = pgm_expr.fit(adata, "mixture", hidden=64, seed=seed, **settings)
    single = pgm_expr.fit(adata, "vae", hidden=equally_wide(mixture), seed=seed, **settings)
    with torch.no_grad():
        found = mixture.guide.eval().classify(torch.from_numpy(adata.X)).argmax(1)
    (components,) = pca(adata.X)
    simple = (KMeans(REGIMES, n_init=5, random_state=0), GaussianMixture(REGIMES, random_state=0))
    guesses = [found.numpy(), *(each.fit_predict(components) for each in simple)]
    bounds, gain = (log_p(mixture), log_p(single)), log_p(mixture) - log_p(single)
    return [
        seed,
        *(f"{agreement(guess, known):.3f}" for guess in guesses),
        *(f"{bound.mean():.2f}" for bound in bounds),
        f"{gain.mean():.2f} ± {standard_error(gain):.2f}",
        f"{size(mixture)} / {size(single)}",
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--latent", type=int, default=5)
    arguments = parser.parse_args()
    settings = dict(
        latent=arguments.latent, epochs=arguments.epochs, batch_size=128, progress=False
    )
    print("seed ARI k-means GMM | IWAE mixture, vae | difference | parameters")
    for seed in arguments.seeds:
        print(*row(seed, settings), sep="  ", flush=True)


if __name__ == "__main__":
    main()
