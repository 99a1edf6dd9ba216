"""S4D, a fixed diagonal state space (Gu et al. 2022). spec.py defines it, README.md describes our kernels."""
