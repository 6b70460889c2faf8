"""What latent states hold: probes, leakage, structure, mixing, novelty."""
