"""Rows in, selections out: what users of feature arrays and of datasets call."""
