"""Gated products of delta steps (DeltaProduct). spec.py defines it, README.md describes our kernels."""
