"""Compares selection methods on many pools: those of BIG-bench, and others that the defaults were not made with."""
