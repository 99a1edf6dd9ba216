"""Diagonal recurrences h_t = a_t h_{t-1} + b_t, in one pass or in three passes over segments.

`plan.py` chooses the regime, `segments.py` carries states from segment to segment, `device.py` and `checks.py` hold
what kernels and host code of these operators share. The other two passes belong to each operator: local (what a segment
adds to a state of zeros, and how much of an earlier state it keeps) and apply (the outputs, from the state that the
segment starts from).
"""
