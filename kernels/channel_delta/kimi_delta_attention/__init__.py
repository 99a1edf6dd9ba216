"""Kimi Delta Attention (Kimi Team 2025). spec.py defines it, kernels/channel_delta has the kernels."""
