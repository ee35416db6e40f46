"""Other ways to serve the same model, each written as its framework's documentation shows, each in a file of its own.

Every file is a program, `python -m benchmarks.serving.peers.NAME`, that takes what it needs from the environment (see
`common.Setup`) and serves on one port until it is stopped. Each knows two ways: `default`, the checkpoint in
Ultralytics as the documentation has it, and `engine`, the service's own engine file with what the framework recommends
for speed.
"""
