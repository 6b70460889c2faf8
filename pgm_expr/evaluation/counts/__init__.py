"""Measures of counts that a story draws and predicts, beside real ones."""
