"""Baselines of Lightning Attention-2: the naive and the chunkwise form in PyTorch, adapters to libraries."""
