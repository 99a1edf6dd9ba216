"""Baselines of RWKV-7: naive, chunked and step in PyTorch, adapters to flash-linear-attention."""
