"""Selects again before every epoch, with the model as it is at that moment."""
