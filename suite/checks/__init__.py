"""Checks: an implementation's outputs and gradients against the oracle, on inputs it has not seen."""
