"""Baselines of Kimi Delta Attention: naive, chunked and step in PyTorch, adapters to flash-linear-attention."""
