"""TaylorShift attention (Nauen et al. 2024): spec.py defines it, orders.py says from which length on one order of
evaluation is cheaper than the other, README.md describes our kernels."""
