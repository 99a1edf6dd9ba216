"""Retention (Sun et al. 2023): spec.py says what it is, README.md how ours computes it."""
