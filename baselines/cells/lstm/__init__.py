"""Baselines of the LSTM: PyTorch, which calls cuDNN on a GPU, a loop over tokens, and a decode step."""
