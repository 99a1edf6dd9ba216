"""What the PyTorch baselines of the delta rules share, and their calls of flash-linear-attention."""
