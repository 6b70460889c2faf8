"""How does posterior collapse show, and which settings of training prevent it?

python examples/break_and_cure.py [--smoke]

Fits the story `vae` with beta = 30, which collapses its posterior, and in three ways that avoid
the collapse. All fits are judged by the same bound, with beta = 1, on the same held-out cells.
"""

from __future__ import annotations

import argparse
import warnings

import pgm_expr

FITS = {
    "beta 30": dict(beta=30.0),
    "beta 1, reached by a warm-up": dict(beta=1.0, warmup_epochs=20),
    "beta 1, reached in four cycles": dict(beta=1.0, warmup_epochs=40, cycles=4),
    "beta 30 with 1 free nat a dimension": dict(beta=30.0, free_bits=1.0),
}


def judged(settings: dict) -> dict:
    """The held-out figures of one fit; they include the warning of collapse as text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        run = pgm_expr.fit("pbmc68k_reduced", progress=False, **settings)
        return run.evaluate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few epochs, figures mean nothing")
    quick = dict(epochs=2, n_top_genes=60) if parser.parse_args().smoke else {}
    print(f"{'':36} {'KL':>6} {'units':>6} {'ELBO':>9} {'IWAE':>9}")
    for name, settings in FITS.items():
        figures = judged(settings | quick)
        numbers = (figures[key] for key in ("kl", "active_units", "heldout_elbo", "heldout_iwae"))
        print("{:36} {:6.2f} {:6d} {:9.2f} {:9.2f}".format(name, *numbers))
        print(f"  {figures['collapse'] or 'the latent dimensions are in use'}")


if __name__ == "__main__":
    main()
