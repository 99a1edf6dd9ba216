"""TaylorShift attention (Nauen et al. 2024): spec.py says what it is, orders.py where one order of evaluation gets
cheaper than the other, README.md how ours computes both."""
