"""Attention of the newest tokens over a KV cache: specification and kernels, with two ways to share out the work."""
