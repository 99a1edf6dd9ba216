"""Baselines of softmax attention: the naive form, PyTorch's backends, and adapters to FlashAttention."""
