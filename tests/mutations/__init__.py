"""Faults put into the kernels one at a time: every one must turn a test red. `python -m tests.mutations FAMILY`."""
