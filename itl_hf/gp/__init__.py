"""The Gaussian process of a selection: kernels, features as they are prepared, posteriors, noise, and the theory."""
