"""Baselines of TaylorShift attention: both orders of evaluation in PyTorch, an adapter to flash-linear-attention."""
