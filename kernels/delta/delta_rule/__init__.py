"""The delta rule (DeltaNet, fast weight programmers). spec.py defines it, README.md describes our kernels."""
