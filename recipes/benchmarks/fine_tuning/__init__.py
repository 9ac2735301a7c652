"""Does selection help? Pools that resemble life, every method, the same training budget, held-out loss."""
