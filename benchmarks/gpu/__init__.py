"""How fast the detector's graph is on a GPU, engine by engine, and whether each finds what PyTorch finds on a CPU."""
