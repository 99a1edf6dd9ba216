"""State-space duality, Mamba-2's recurrence (Dao and Gu 2024). spec.py defines it, README.md describes our kernels."""
