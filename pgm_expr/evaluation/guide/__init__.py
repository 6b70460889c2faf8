"""Is the guide right: importance weights, refinement, NUTS, simulation-based calibration."""
