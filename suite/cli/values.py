"""Values of flags: the argparse types of all commands. Each refuses a wrong value with one clear line.

A number is written in plain decimal digits. NaN, infinities and numbers beyond what a clock or a generator takes are
refused here, before anything is imported or measured.
"""

from __future__ import annotations

import argparse
import math
import re
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from suite.errors import UsageError
from suite.problem import LARGEST_SIZE

# Beyond this a clock's own functions fail; about 30 years in seconds.
LONGEST = 1e9
# What every generator of random numbers takes, with room for the seeds that the suite derives from one.
LARGEST_SEED = 2**32 - 1
MOST = 10**6
# Of a word that is quoted in an error.
LONGEST_WORD = 24
_DIGITS = re.compile(r"[0-9]+")
_SHARD = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?|\.[0-9]+([eE][+-]?[0-9]+)?")


def size(text: str) -> int:
    """An axis of a problem: an integer from 1 to LARGEST_SIZE."""
    return _integer(text, 1, LARGEST_SIZE, f"{_cut(text)!r} is not a size; give an integer of at least 1")


def sizes(text: str) -> tuple[int, ...]:
    """`128` or `128,512`."""
    return tuple(size(word) for word in words(text))


def head_dims(text: str) -> tuple[tuple[int, int], ...]:
    """`64`, `64x128` or several: the pairs (key dim, value dim)."""
    return tuple(_head_dim(word) for word in words(text))


def _head_dim(word: str) -> tuple[int, int]:
    key, cross, value = word.partition("x")
    try:
        return size(key), size(value if cross else key)
    except argparse.ArgumentTypeError as error:
        wrong = f"{_cut(word)!r} is not a head dim; write K or KxV, such as 64 or 64x128"
        raise argparse.ArgumentTypeError(wrong) from error


def count(text: str) -> int:
    """How many: an integer of at least 1."""
    return _integer(text, 1, MOST, f"{_cut(text)!r} is not a count; give an integer of at least 1")


def index(text: str) -> int:
    """Which, counted from 0."""
    return _integer(text, 0, MOST, f"{_cut(text)!r} is not an index; give an integer of at least 0")


def seed(text: str) -> int:
    """The seed of a generator."""
    return _integer(text, 0, LARGEST_SEED, f"{_cut(text)!r} is not a seed; give an integer of at least 0")


def drawn_pick() -> int:
    """A part of the outputs for this run to compare with the oracle: nobody can be right in that part alone."""
    return secrets.randbelow(LARGEST_SEED)


def pause(text: str) -> float:
    """Seconds or milliseconds that may be 0."""
    return _number(text, f"{_cut(text)!r} is not a time; give a number of at least 0")


def span(text: str) -> float:
    """Seconds or milliseconds above 0."""
    wrong = f"{_cut(text)!r} is not a time; give a number above 0"
    found = _number(text, wrong)
    if found == 0:
        raise argparse.ArgumentTypeError(wrong)
    return found


def allowance(flag: str, unit: str) -> Callable[[str], float]:
    """The type of a flag that takes a number of `unit` from 0 to below 100. UsageError names the flag."""

    def allowed(text: str) -> float:
        found = float(text) if _NUMBER.fullmatch(text) else math.inf
        if not found < 100:
            raise UsageError(f"{flag} {_cut(text)} is not an allowance; give {unit} from 0 to below 100")
        return found

    return allowed


def chance(text: str) -> float:
    """A probability between 0 and 1, neither of them."""
    found = _number(text, f"{_cut(text)} is no chance; give a number between 0 and 1, such as 0.02")
    if not 0 < found < 1:
        raise argparse.ArgumentTypeError(f"{_cut(text)} is no chance; give a number between 0 and 1, such as 0.02")
    return found


def budget(text: str) -> float:
    """Seconds of `90s`, `8m` or `1h30m`. UsageError names the flag."""
    from suite.running.budget import parse_duration

    return parse_duration(text)


def shard(text: str) -> tuple[int, int]:
    """(I, N) of `I/N`: the I-th of N parts, counted from 1. UsageError names the flag."""
    found = _SHARD.fullmatch(text)
    part, parts = (int(each) for each in found.groups()) if found else (0, 0)
    if not 1 <= part <= parts:
        raise UsageError(f"--shard {_cut(text)}: write I/N with 1 <= I <= N, such as 2/4")
    return part, parts


def path(text: str) -> Path:
    """A file or folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty path; name a file or folder")
    return Path(text)


def filled(text: str) -> str:
    """A word that is not empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty name; remove the flag for the default")
    return text


def words(text: str) -> tuple[str, ...]:
    """A comma-separated list, each word once."""
    found = tuple(word.strip() for word in text.split(","))
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty list; name at least one")
    if "" in found:
        raise argparse.ArgumentTypeError(f"{_cut(text)!r} has an empty entry; write a comma only between two entries")
    return tuple(dict.fromkeys(found))


def some_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """A comma-separated list of known words."""

    def read(text: str) -> tuple[str, ...]:
        found = words(text)
        for word in found:
            if word not in known:
                raise argparse.ArgumentTypeError(f"unknown name {_cut(word)!r}; known: {', '.join(known)}")
        return found

    return read


def _integer(text: str, low: int, high: int, wrong: str) -> int:
    if not _DIGITS.fullmatch(text):
        raise argparse.ArgumentTypeError(wrong)
    # The digits are counted first: Python refuses to convert thousands of them.
    if len(text.lstrip("0")) > len(str(high)) or int(text) > high:
        raise argparse.ArgumentTypeError(f"{_cut(text)} is too large; the largest is {high}")
    if int(text) < low:
        raise argparse.ArgumentTypeError(wrong)
    return int(text)


def _number(text: str, wrong: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise argparse.ArgumentTypeError(wrong)
    found = float(text)
    if math.isinf(found) or found > LONGEST:
        raise argparse.ArgumentTypeError(f"{_cut(text)} is too large; the largest is {LONGEST:g}")
    return found


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_WORD else f"{text[: LONGEST_WORD - 3]}..."
