"""What holds for all tests: one thread each, and a user's script that must not be collected, since it would run."""

import os

# Before torch and NumPy are imported. Tests compute little, and two workers of pytest-xdist on two cores with two
# threads each would only wait for one another. What tests start inherits it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

collect_ignore = ["training/existing_script.py"]
