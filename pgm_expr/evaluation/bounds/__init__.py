"""Bounds of held-out log likelihoods, baselines, and the ranking of variants."""
