"""Is the model right, is the guide right, how sure are we: one file per section."""
