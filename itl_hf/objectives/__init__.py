"""The objectives that a selection maximises: one file for each, with its formula and its source at the top."""
