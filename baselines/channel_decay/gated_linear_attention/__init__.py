"""Baselines of gated linear attention: naive and chunkwise forms in PyTorch, adapters to flash-linear-attention."""
