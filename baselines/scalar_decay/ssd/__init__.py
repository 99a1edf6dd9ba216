"""Baselines of SSD: the naive and the chunkwise form in PyTorch, adapters to flash-linear-attention and mamba_ssm."""
