"""Baselines of attention by feature maps."""
