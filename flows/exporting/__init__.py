"""From a checkpoint to an engine that is proven equal."""
