"""LESS: rows picked by their influence on labelled targets, by gradients after a warm-up with Adam."""
