"""The delta rule (DeltaNet, fast weight programmers): spec.py says what it is, README.md how ours computes it."""
