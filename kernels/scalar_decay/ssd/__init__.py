"""State-space duality, Mamba-2's recurrence (Dao and Gu 2024): spec.py says what it is, README.md how ours does it."""
