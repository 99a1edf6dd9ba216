"""Linear attention (Katharopoulos et al. 2020). spec.py defines it, README.md describes our kernels."""
