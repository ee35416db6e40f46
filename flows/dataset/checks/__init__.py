"""What must hold of a dataset: families of checks, each with the tables that it asks."""
