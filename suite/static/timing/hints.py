"""What machine code leaves to registers, read off the TTGIR: the sizes of TMA loads and of tcgen05 products."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from suite.static.model import Dots
from suite.static.timing.sass import Instruction
from suite.static.timing.units import TENSOR_OPCODES, TMA_OPCODES, Hints

_COPY = re.compile(r"ttng\.async_tma_copy_global_to_local\b.*->\s*!ttg\.memdesc<([\dx]+)x([a-z]+\d+)\w*,")
_GATHER = re.compile(r"ttng\.async_tma_(?:gather|scatter)\b")
_BITS = re.compile(r"\d+")


def hints_of(code: Sequence[Instruction], ttgir: str | None, dots: Dots | None) -> Hints:
    """The mean over a kernel's TMA loads, and over its tcgen05 products; 0 where it has none, or they are not read."""
    copies = [_bytes(shape, kind) for shape, kind in _COPY.findall(ttgir or "")]
    loads = sum(each.name in TMA_OPCODES for each in code)
    products = sum(each.name in TENSOR_OPCODES for each in code)
    return Hints(
        tma_bytes=sum(copies) / loads if loads else 0.0,
        tensor_fmas=dots.flops / 2 / products if products and dots and not dots.reason else 0.0,
    )


def _bytes(shape: str, kind: str) -> float:
    bits = _BITS.search(kind)
    return math.prod(map(int, shape.split("x"))) * int(bits[0]) / 8 if bits else 0.0
