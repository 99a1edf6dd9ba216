"""Lightning Attention-2 (Qin et al. 2024). spec.py defines it, README.md describes our kernels."""
