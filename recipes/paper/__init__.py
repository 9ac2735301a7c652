"""The experiments of the paper on transductive active learning, repeated on text with this package."""
