"""Quality of a pool's rows from the share of their loss that a short training on labelled targets removes."""
