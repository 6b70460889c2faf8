"""What each latent of the hierarchical story represents: five cell lines, two protocols.

    PGM_EXPR_DATA=folder python benchmarks/hierarchical.py [--genes list.txt] [--seeds 0 1 2]

Labels are withheld from all embedded cells. A seed sets the split and the fit. Figures by latent,
on test cells:

    KL         nats per cell
    type       macro-F1 of a logistic probe of the cell line
    batch      balanced accuracy of the same probe of the protocol
    within     the same within each line that both protocols measured, beside the probe of
               protocols permuted within the line, and p

each from posterior means, then from one draw of the posterior. A shift much smaller than the
posterior sd is detected from means, although draws of the latent carry no information on it.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import pyro.poutine as poutine
import torch

import pgm_expr
from pgm_expr import evaluation, predict
from pgm_expr.data import load_dataset, sweep
from pgm_expr.inference import call, latent_use

PARTS = "development", "test"  # where probes are fitted, and where they are scored
KEYS = dict(labels_key="cell_line", batch_key="protocol")


def data(genes):
    """All cells in the genes of a list, one a line; or AnnData and a gene rule without a list."""
    adata = load_dataset("sc_mixology_celseq2_dropseq")
    if genes is None:
        return adata, dict(min_cells=3, n_top_genes=2000)
    return adata[:, genes.read_text().split()].copy(), {}


def batches(run, part):
    """The cells of a part of the split, labels withheld."""
    cells = run.table.cells.to(run.device)
    return list(predict.withheld(sweep(cells, getattr(run.table.split, part), 512)))


@torch.no_grad()
def draw(run, part, sites):
    """One draw of each latent of the cells of a part of the split."""
    torch.manual_seed(0)
    run.guide.eval()
    traces = [poutine.trace(call).get_trace(run.guide, batch) for batch in batches(run, part)]
    return {site: torch.cat([trace.nodes[site]["value"] for trace in traces]) for site in sites}


def columns(run, name):
    """A column of the cells to fit a probe on, and of those to score it on."""
    column, split = run.table.cells.columns[name], run.table.split
    return column[split.development], column[split.test]


def probes(run, known, held_out):
    """Probes of type and batch, and the leakage of the batch within types."""
    (y, y_test), (b, b_test) = columns(run, "label"), columns(run, "batch")
    z, z_test = known.cpu().numpy(), held_out.cpu().numpy()
    within = evaluation.leakage(z, b, z_test, b_test, train_groups=y, test_groups=y_test)
    return {
        "type": evaluation.probe(z, y, z_test, y_test)["macro_f1"],
        "batch": evaluation.probe(z, b, z_test, b_test)["balanced_accuracy"],
        "within": within.accuracy,
        "chance": within.chance,
        "p": within.p,
    }


def figures(run):
    """KL and probes by latent, of posterior means and of draws."""
    known, held_out = (latent_use(run.bound(), batches(run, part)) for part in PARTS)
    drawn, drawn_test = (draw(run, part, held_out.locs) for part in PARTS)
    for site in held_out.locs:
        kl = {"KL": held_out.kls[site].sum().item()}
        yield site, "means", kl | probes(run, known.locs[site], held_out.locs[site])
        yield site, "draws", kl | probes(run, drawn[site], drawn_test[site])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--genes", type=Path, help="file of gene names, one a line")
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    adata, rule = data(options.genes)
    for seed in options.seeds:
        run = pgm_expr.fit(
            adata, "hierarchical", split_seed=seed, seed=seed, progress=False, **KEYS, **rule
        )
        for site, of, row in figures(run):
            words = "  ".join(f"{name} {value:6.3f}" for name, value in row.items())
            print(f"seed {seed}  {site:12s} {of}  {words}", flush=True)


if __name__ == "__main__":
    main()
