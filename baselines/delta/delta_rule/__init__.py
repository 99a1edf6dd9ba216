"""The delta rule: plain PyTorch, and adapters to other libraries."""
