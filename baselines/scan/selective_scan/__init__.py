"""Baselines of the selective scan: a loop and a parallel scan in PyTorch, an adapter to mamba_ssm."""
