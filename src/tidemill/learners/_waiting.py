"""OpenMP threads that wait politely; imported before any learner, since OpenMP reads the environment once, when loaded.

GNU OpenMP lets a thread that waits for the others spin for some milliseconds. Beside a busy neighbour the one it waits
for does not run meanwhile, and a step that takes 20 ms with one thread took 700 ms with two. With a short spin it took
25 ms, and the sums are the same bit for bit; boosted trees with two threads took 16 to 80 s without, and 7 s with it. A
value that the user has set stands. See "Busy neighbours" in docs/benchmarks.md.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "2000")
