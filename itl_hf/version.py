"""The package's version: a module without imports, so that any room can record it."""

__version__ = "0.1.0"
