"""Shared pieces of our kernels."""
