"""Which variant of the ELBO trains the better model of the same data?

python examples/compare_elbos.py [--smoke]

Trains the story `vae` on 700 real cells with each objective, on five splits. All fits are judged
by the ELBO and the importance-weighted bound (IWAE) of held-out cells. With many particles the
training bound is tighter, but the guide approximates the posterior less well: compare the two
columns.
"""

from __future__ import annotations

import argparse
import tempfile

import pgm_expr

OBJECTIVES = ["elbo", "mean-field", "trace", "iwae-10", "iwae-10-dreg", "renyi-0.5-10"]
SHOWN = ["objective", "heldout_elbo", "heldout_iwae_4k", "diff", "se", "tie", "kl", "seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few epochs, figures mean nothing")
    quick = dict(epochs=2, draws=5, splits=2) if parser.parse_args().smoke else {}
    with tempfile.TemporaryDirectory() as out:
        table = pgm_expr.compare(
            "pbmc68k_reduced", objectives=OBJECTIVES, out=out, progress=False, **quick
        )
    print(table.to_frame()[SHOWN].round(2).to_string(index=False))


if __name__ == "__main__":
    main()
