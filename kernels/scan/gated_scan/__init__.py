"""The elementwise gated scan of HGRN and RG-LRU: spec.py says what it is, README.md how ours computes it."""
