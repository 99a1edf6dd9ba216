"""Strict JSON, both ways: NaN, infinity and text that is not Unicode are neither written nor accepted.

What is stored is sealed: its last field, `crc`, is the CRC-32 of all bytes before it, in eight hexadecimal digits.

>>> sealed({"schema": "1.1"})
b'{"schema":"1.1","crc":"388cd18f"}\\n'
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping
from typing import Any, NoReturn

from suite.errors import StoreError

CRC = "crc"
_SEAL = re.compile(rb',"crc":"([0-9a-f]{8})"}\Z')
_SEAL_BYTES = 18
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


def sealed(value: Mapping[str, Any]) -> bytes:
    """A plain object that is not empty as the line that stores it: JSON, its checksum last, newline included."""
    body = encode({name: each for name, each in value.items() if name != CRC})[:-2]
    return b'%b,"crc":"%08x"}\n' % (body, zlib.crc32(body))


def seal_of(line: bytes) -> bool | None:
    """Whether the checksum at the end of a line without its newline fits what stands before; None without one."""
    found = _SEAL.search(line, max(0, len(line) - _SEAL_BYTES))
    return found and int(found[1], 16) == zlib.crc32(line[: found.start()])


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


def begins(line: bytes) -> bool:
    """Whether a line is the beginning of a JSON value that its end is missing from, as a killed writer leaves one."""
    try:
        _DECODER.raw_decode(line.decode(errors="replace"))
    except (ValueError, RecursionError):
        return b"\r" not in line
    return False


_DECODER = json.JSONDecoder(parse_float=_finite, parse_int=_bounded, parse_constant=_refuse)
