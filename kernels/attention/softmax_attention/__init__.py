"""Softmax attention (Vaswani et al. 2017): the quadratic operator that the others are compared with."""
