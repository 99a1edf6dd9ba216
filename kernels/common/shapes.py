"""Sizes: the head dims that kernels take, and the powers of 2 that their tiles are."""

from __future__ import annotations

# The largest head dim of q, k and v: what a program holds of one is on chip whole.
MAX_DIM = 256


def power_of_2(size: int) -> int:
    """The smallest power of 2 that is at least `size` and at least 16, the smallest dimension of a tensor core."""
    return max(16, next_power_of_2(size))


def next_power_of_2(size: int) -> int:
    """The smallest power of 2 that is at least `size`."""
    return 1 << (size - 1).bit_length()
