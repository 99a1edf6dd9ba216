"""Mamba's selective scan (Gu and Dao 2023): spec.py says what it is, README.md how ours computes it."""
