"""Frames that splits share, and splits without them."""
