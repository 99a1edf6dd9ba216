"""Strict JSON, both ways: no NaN or infinity is written or accepted, and no text that is not Unicode."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from suite.errors import StoreError

# Integers beyond 64 bits fit no column of a table: written as floats, refused when read.
_INT64 = 2**63


def plain(value: Any, where: str = "value") -> Any:
    """Value as what JSON has: NaN and infinities become None, tuples lists, numpy and 0-d torch scalars numbers.

    Raises StoreError naming the field for anything else.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value) if -_INT64 <= value < _INT64 else float(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): plain(each, f"{where}.{name}") for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each, where) for each in value]
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return plain(value.item(), where)
    raise StoreError(f"{where} is a {type(value).__name__}; JSON takes numbers, text, lists and objects: convert it")


def encode(value: Any) -> bytes:
    """One line of UTF-8 JSON, newline included. Half surrogate pairs, as in undecodable stderr, become '?'."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", errors="replace") + b"\n"


def decode(line: bytes) -> Any:
    """The value of one line of JSON; ValueError when it is not strict JSON, or nests too deeply to be read."""
    try:
        value = _DECODER.decode(line.decode())
        if b"\\u" in line:
            # An escape may be half a surrogate pair, which no writer could write again.
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError as error:
        raise ValueError("not UTF-8") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:20]} is too large")
    return value


def _bounded(text: str) -> int:
    value = int(text)
    if not -_INT64 <= value < _INT64:
        raise ValueError(f"{text[:20]} is too large")
    return value


def _refuse(token: str) -> NoReturn:
    raise ValueError(f"{token} is not JSON")


_DECODER = json.JSONDecoder(parse_float=_finite, parse_int=_bounded, parse_constant=_refuse)
