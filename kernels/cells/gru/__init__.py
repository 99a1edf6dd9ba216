"""The GRU. spec.py defines it; PyTorch and cuDNN compute it. This project has no kernel for it."""
