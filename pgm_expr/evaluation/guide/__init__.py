"""Measures of a guide: importance weights, refinement, calibration, NUTS, ELBO surgery."""
