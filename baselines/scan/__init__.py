"""Baselines of scans with a diagonal state."""
