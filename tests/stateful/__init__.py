"""Random sequences of operations on store, selection folder and sampler, compared with a plain model after each one."""
