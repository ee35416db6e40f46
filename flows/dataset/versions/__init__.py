"""What is in a version of the data, and how two differ."""
