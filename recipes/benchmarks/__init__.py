"""Benchmarks for the claims and the defaults. Each module starts with its command and writes its own results."""
