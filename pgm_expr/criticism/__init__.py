"""Checks of model and guide on held-out cells: one file a section, `sections.py` the table."""
