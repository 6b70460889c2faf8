"""Measures of differences between groups of cells."""
