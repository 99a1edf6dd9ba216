"""RWKV-6 (Peng et al. 2024). spec.py defines it, README.md describes our kernels."""
