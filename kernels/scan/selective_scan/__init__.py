"""Mamba's selective scan (Gu and Dao 2023). spec.py defines it, README.md describes our kernels."""
