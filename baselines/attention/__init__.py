"""Baselines of softmax attention: over a whole sequence, over a window, over a cache."""
