"""Measurements behind the claims and the defaults; each opens with its command and writes its own table."""
