"""The mathematics of selection: torch only; no text, no files, no models."""
