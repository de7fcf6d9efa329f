"""What a stage asks: one file per operation, with its path, body, key, verdict and columns. Pure."""
