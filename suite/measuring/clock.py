"""The clock of timers and sampling: Python's own, bound before any implementation is loaded.

So one that puts functions of its own into the module `time` changes no sample.
"""

from time import monotonic, perf_counter, perf_counter_ns, sleep

__all__ = ["monotonic", "perf_counter", "perf_counter_ns", "sleep"]
