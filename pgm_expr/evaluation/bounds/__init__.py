"""Held-out likelihoods, baselines and the ranking of variants."""
