"""How far two sets of frames are apart, and which cameras moved."""
