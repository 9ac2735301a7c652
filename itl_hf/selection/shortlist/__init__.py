"""Shortlist, then select: the picks are made among the targets' nearest rows instead of the whole pool."""
