"""For every prompt a few steps on rows of its own."""
