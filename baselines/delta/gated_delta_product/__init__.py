"""Products of gated delta steps: plain PyTorch, and adapters to other libraries."""
