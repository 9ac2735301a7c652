"""Recipes to run or to copy, and the benchmarks behind the measured claims."""
