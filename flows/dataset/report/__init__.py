"""The verdict of a validation, and how it is shown."""
