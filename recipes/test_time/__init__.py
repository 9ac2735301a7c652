"""Trains for a few steps on rows selected for one prompt, for every prompt."""
