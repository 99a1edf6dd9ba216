"""Crossover: from which length is one implementation faster than another, or needs less memory?

verdict(shared)   where two lines meet, with an interval, from times and their intervals
predicted_ms      the time that a cost and a device's ceilings allow, for a prediction beside the measurement
bisect            which length to measure next
"""

from __future__ import annotations

from suite.crossover.predicting import predicted_ms
from suite.crossover.verdicts import Meeting, Shared, Verdict, verdict

__all__ = ["Meeting", "Shared", "Verdict", "predicted_ms", "verdict"]
