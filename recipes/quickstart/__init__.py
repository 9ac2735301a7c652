"""Selects rows with a small language model's hidden states, trains on them, and measures whether it helped."""
