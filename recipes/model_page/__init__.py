"""The page docs/models.md: what works with which architecture, tried on tiny models with random weights."""
