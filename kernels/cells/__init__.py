"""Recurrent cells, to compare with: LSTM and GRU. PyTorch and cuDNN compute them; we have no kernels for them."""
