"""Readers of files under random bytes: `make fuzz` looks for inputs that break them, `corpus/` keeps those that did."""
