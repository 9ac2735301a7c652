"""What users copy: recipes that run as they stand, and the benchmarks behind the claims."""
