"""Baselines of sliding-window attention: the naive form, PyTorch with a mask, and adapters to libraries."""
