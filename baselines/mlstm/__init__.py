"""Baselines of mLSTM: the naive, the chunkwise and the step form in PyTorch, adapters to mlstm_kernels."""
