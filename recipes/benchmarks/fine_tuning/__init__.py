"""Compares the held-out loss after fine-tuning on the picks of every method, with the same training budget."""
