"""Sliding-window attention (Beltagy et al. 2020): spec.py says what it is, README.md how ours computes it."""
