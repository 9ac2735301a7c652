"""How the maximum of an objective is found: exact greedy selection in a few passes over the pool."""
