"""Baselines of retention: the naive and the chunkwise form in PyTorch, adapters to libraries."""
