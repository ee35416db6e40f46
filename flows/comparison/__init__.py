"""Scoring detectors on the same frames and deciding between them."""
