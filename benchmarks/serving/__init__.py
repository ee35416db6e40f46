"""How fast the detector serves: `python -m benchmarks.serving`.

`ladder` measures rung by rung what engine, decoder and HTTP allow and what the whole service delivers; `peers` are
other ways to serve the same model, on the same frames, with the same client.
"""
