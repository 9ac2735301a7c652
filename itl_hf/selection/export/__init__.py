"""Writes the picked rows in the formats of other trainers: one file for each trainer, and the driver `export.py`."""
