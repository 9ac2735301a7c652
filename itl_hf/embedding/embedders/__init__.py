"""Embedders: classes that turn rows of text into feature rows."""
