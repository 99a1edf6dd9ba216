"""RWKV-7 (Peng et al. 2025). spec.py defines it, kernels/channel_delta has the kernels."""
