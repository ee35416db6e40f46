"""Frames, labels and what must hold of them."""
