"""Baselines of linear attention: the naive and the chunkwise form in PyTorch, adapters to flash-linear-attention."""
