"""S4D, a fixed diagonal state space (Gu et al. 2022): spec.py says what it is, README.md how ours computes it."""
