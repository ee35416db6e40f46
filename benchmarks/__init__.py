"""Benchmarks: scripts that each print one table and write one JSON file, run as `python -m benchmarks.NAME`."""
