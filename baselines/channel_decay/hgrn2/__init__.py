"""Baselines of HGRN-2: the naive and the chunkwise form in PyTorch, adapters to flash-linear-attention."""
