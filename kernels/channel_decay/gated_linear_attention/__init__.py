"""Gated linear attention (Yang et al. 2024). spec.py defines it, README.md describes our kernels."""
