"""The elementwise gated scan of HGRN and RG-LRU. spec.py defines it, README.md describes our kernels."""
