"""The experiments of the paper on transductive active learning, on text and with this package."""
