"""OpenMP threads that wait politely; imported before torch, whose OpenMP library reads the environment once.

GNU OpenMP lets a thread that waits for the others spin for some milliseconds. Beside a busy neighbour the one it waits
for does not run meanwhile, and a step that takes 20 ms with one thread took 700 ms with two. With a short spin it took
25 ms, and the sums are the same bit for bit. A value that the user has set stands. See "MNIST" in docs/benchmarks.md.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "2000")
