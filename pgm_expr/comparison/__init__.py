"""Variants of stories on the same cells: the grid, the fits, the ranking, the table."""
