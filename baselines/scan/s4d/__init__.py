"""Baselines of S4D: the recurrence and the convolution by FFT in PyTorch, and a decode step."""
