"""Select with a small language model's own hidden states, train on the picks, and see whether it helped."""
