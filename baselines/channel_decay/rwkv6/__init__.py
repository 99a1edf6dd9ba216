"""Baselines of RWKV-6: the naive and the chunkwise form in PyTorch, adapters to flash-linear-attention."""
