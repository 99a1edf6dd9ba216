"""RWKV-7 (Peng et al. 2025): spec.py says what it is, kernels/channel_delta how ours computes it."""
