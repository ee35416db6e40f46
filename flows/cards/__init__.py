"""The model card of a registered version."""
