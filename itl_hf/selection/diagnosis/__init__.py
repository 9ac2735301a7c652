"""What a selection reached for each target, and what to know before training on it."""
