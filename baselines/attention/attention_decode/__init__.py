"""Baselines of attention over a KV cache: PyTorch on contiguous and on gathered caches, and adapters to libraries."""
