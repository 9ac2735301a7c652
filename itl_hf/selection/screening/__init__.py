"""Copies: targets whose text is in the pool, and picks that repeat each other."""
