"""Retention (Sun et al. 2023). spec.py defines it, README.md describes our kernels."""
