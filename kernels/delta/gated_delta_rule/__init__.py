"""The gated delta rule (Gated DeltaNet). spec.py defines it, README.md describes our kernels."""
