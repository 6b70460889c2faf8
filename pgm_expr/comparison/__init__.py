"""Comparison of variants of stories, fitted to the same cells."""
