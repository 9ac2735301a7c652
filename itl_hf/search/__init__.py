"""How the maximum is found: exact greedy selection in a few passes over the pool."""
