"""The GRU: spec.py says what it is. PyTorch and cuDNN compute it; this project has no kernel of its own for it."""
