"""Measures of latent states: probes, variance explained, mixing, novelty, disentanglement."""
