"""The gated delta rule (Gated DeltaNet): spec.py says what it is, README.md how ours computes it."""
