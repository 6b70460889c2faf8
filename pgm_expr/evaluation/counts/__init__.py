"""Is the model right: counts that it draws and predicts, beside real ones."""
