"""Baselines of the gated scan: a loop and a parallel scan in PyTorch, adapters to flash-linear-attention."""
