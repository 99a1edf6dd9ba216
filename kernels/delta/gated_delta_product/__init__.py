"""Gated products of delta steps (DeltaProduct): spec.py says what it is, README.md how ours computes it."""
