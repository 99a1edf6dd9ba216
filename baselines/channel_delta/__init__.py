"""What the PyTorch forms of Kimi Delta Attention and RWKV-7 share."""
