"""One training in one process: what Ultralytics trains, in our order, with our state."""
