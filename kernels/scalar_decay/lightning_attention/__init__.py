"""Lightning Attention-2 (Qin et al. 2024): spec.py says what it is, README.md how ours computes it."""
