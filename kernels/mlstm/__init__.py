"""mLSTM, xLSTM's matrix memory (Beck et al. 2024). spec.py defines it, README.md describes our kernels."""
