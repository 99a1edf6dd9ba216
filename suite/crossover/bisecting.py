"""Which length to measure next: halfway, in log T, between the two lengths around a crossing."""

from __future__ import annotations

from collections.abc import Sequence

from suite.crossover.verdicts import Shared, verdict

# Lengths are multiples of this, as models' and kernels' chunks are.
STEP = 16
# A bracket narrower than this is known well enough.
CLOSE = 1.1


def next_lengths(shared: Sequence[Shared]) -> list[int]:
    """The lengths to measure next, one for each meeting whose bracket is still wide; empty when all are narrow."""
    wanted = []
    for meeting in verdict(shared).meetings:
        below = max(each.T for each in shared if each.T <= meeting.T)
        above = min(each.T for each in shared if each.T > meeting.T or each.T == shared[-1].T)
        middle = round((below * above) ** 0.5 / STEP) * STEP
        if above / below > CLOSE and below < middle < above:
            wanted.append(middle)
    return wanted
