"""What is maximised: one file for each objective, with its formula and source."""
