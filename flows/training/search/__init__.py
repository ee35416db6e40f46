"""A search over training parameters."""
