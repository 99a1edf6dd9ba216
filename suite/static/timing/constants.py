"""The constant bank of a launch: what a kernel's machine code reads as c[0x0][…].

    constants = bank("sm_90", kernel.asm["ptx"], kernel.src.signature, bound.arguments, grid=(64, 16, 1), warps=4)
    constants.word(0, 0x210)                                 # the lower half of the first pointer

Bank 0 begins with the sizes of block and grid; the parameters follow, laid out as the PTX declares them. Where they
begin stands in the binary as EIATTR_PARAM_CBANK. Pointers are made up: each parameter has an address of its own, so
that who answers loads can tell whose element is asked for.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# Where parameters begin, the three sizes of a block, those of the grid, and the stack's end, by architecture.
_PLACES = {"sm_80": (0x160, 0x0, 0xC, 0x28), "sm_90": (0x210, 0x0, 0xC, 0x28), "sm_100": (0x380, 0x360, 0x370, 0x37C)}
_STACK = 0xFFFDC0
# Bytes between made-up pointers: more than any tensor has; 127 of them fit into an address.
SPAN = 1 << 40
_PARAMETER = re.compile(r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s[^,()]*?\b\w+_param_\d+\s*(?:\[(\d+)\])?\s*[,)]")
_ENTRY = re.compile(r"\.entry\s+[\w$]+\s*\((.*?)\)\s*(?:\.\w+|\{)", re.DOTALL)
_FLOATS = {"fp16": "<e", "fp32": "<f", "f32": "<f", "fp64": "<d"}
_DESCRIPTOR = re.compile(r"tensordesc<[^\[]*\[([^\]]*)\]")


@dataclass
class Bank:
    """Constant bank 0 by byte; what is not there is not known.

    pointers: of each argument that is a pointer, by name, its made-up address
    """

    data: dict[int, int] = field(default_factory=dict)
    pointers: dict[str, int] = field(default_factory=dict)

    def word(self, bank: int, offset: int) -> int | None:
        """32 bits at an offset, or None where any of them are not known."""
        found = [self.data.get(offset + n) for n in range(4)] if bank == 0 else [None]
        if None in found:
            return None
        return int.from_bytes(bytes(each for each in found if each is not None), "little")

    def write(self, offset: int, content: bytes) -> None:
        self.data.update(enumerate(content, offset))

    def memory(self, contents: Mapping[str, bytes]) -> Callable[[int, int], int | None]:
        """What loads find, by address and bytes, where the contents of some arguments are known, by name."""
        regions = [(self.pointers[name], content) for name, content in contents.items() if name in self.pointers]

        def found(address: int, size: int) -> int | None:
            for start, content in regions:
                if start <= address <= start + len(content) - size:
                    return int.from_bytes(content[address - start : address - start + size], "little")
            return None

        return found


def parameters(ptx: str, start: int) -> list[tuple[int, int]]:
    """(offset, bytes) of each parameter of the one entry in a PTX text, where the first may begin at `start`.

    It is the place in the bank that is aligned, not the distance from the start.

    Raises ValueError where there is no entry, or another form.
    """
    entry = _ENTRY.search(ptx)
    if entry is None:
        raise ValueError("the PTX has no entry")
    found, offset = [], start
    for align, kind, count in _PARAMETER.findall(entry[1] + ")"):
        size = int(kind[1:]) // 8
        whole = size * int(count or 1)
        offset = -(-offset // (alignment := int(align or size))) * alignment
        found.append((offset, whole))
        offset += whole
    if len(found) != entry[1].count(".param "):
        raise ValueError("the PTX declares its parameters in another form")
    return found


def bank(
    arch: str,
    ptx: str,
    signature: Mapping[str, Any],
    values: Mapping[str, Any],
    grid: Sequence[int] = (1, 1, 1),
    warps: int = 4,
) -> Bank:
    """The bank of a launch of a Triton kernel.

    signature: the types of its arguments by name, as `kernel.src.signature` has them: "*bf16", "i32", "constexpr", …
    values:    its arguments by name; integers and floats by value, all else that a pointer's type has is a tensor

    Raises ValueError on another architecture, and where parameters and arguments do not fit together.
    """
    if arch not in _PLACES:
        raise ValueError(f"where {arch} keeps parameters is not known; known are {', '.join(_PLACES)}")
    start, block, size, stack = _PLACES[arch]
    made, places = Bank(), parameters(ptx, start)
    made.write(block, struct.pack("<3I", 32 * warps, 1, 1))
    made.write(size, struct.pack("<3I", *grid))
    made.write(stack, struct.pack("<I", _STACK))
    at = 0
    for name, kind in signature.items():
        for path, each, value in _flat(name, kind, values.get(name)):
            for content in _contents(each, value, [wide for _, wide in places[at:]], len(made.pointers)):
                if at == len(places):
                    raise ValueError(
                        f"the PTX has {len(places)} parameters; there are more arguments, {path} among them"
                    )
                offset, wide = places[at]
                if content is not None:
                    if len(content) != wide:
                        raise ValueError(f"the argument {path} has {len(content)} bytes; its parameter has {wide}")
                    made.write(offset, content)
                    if each.startswith("*"):
                        made.pointers[path] = int.from_bytes(content, "little")
                at += 1
    for offset, wide in places[at:]:
        # Pointers to scratch memory, which Triton adds.
        made.write(offset, bytes(wide))
    return made


def _flat(name: str, kind: Any, value: Any) -> Iterator[tuple[str, str, Any]]:
    """Arguments with what tuples hold one by one; none for what the kernel was compiled for."""
    if isinstance(kind, (tuple, list)):
        for n, each in enumerate(kind):
            yield from _flat(f"{name}.{n}", each, value[n] if value is not None else None)
    elif kind != "constexpr":
        yield name, kind, value


def _contents(kind: str, value: Any, sizes: Sequence[int], pointers: int) -> Iterator[bytes | None]:
    """The bytes of an argument's parameters, None for what is not known; `sizes` are those that are left."""
    if match := _DESCRIPTOR.match(kind):
        yield from _descriptor(match[1].count(",") + 1, value, sizes)
    elif kind.startswith("*"):
        yield bytes(8) if value is None else struct.pack("<Q", (pointers + 1) * SPAN)
    elif kind in _FLOATS:
        yield struct.pack(_FLOATS[kind], value)
    elif kind == "bf16":
        yield struct.pack("<f", value)[2:]
    elif match := re.fullmatch(r"[iu](\d+)", kind):
        size = max(1, int(match[1]) // 8)
        yield (int(value) & (1 << 8 * size) - 1).to_bytes(size, "little")
    else:
        yield None


def _descriptor(rank: int, value: Any, sizes: Sequence[int]) -> Iterator[bytes | None]:
    """A tensor descriptor: one of the hardware, or a pointer, shape, strides and flags; then shape and strides."""
    shape = [struct.pack("<i", each) for each in getattr(value, "shape", ())] or [None] * rank
    strides = [struct.pack("<q", each) for each in getattr(value, "strides", ())] or [None] * rank
    yield None
    if sizes[:1] == [8]:
        yield from (None if each is None else each + bytes(4) for each in shape)
        yield from strides
        # One flag in Triton 3.6, two later.
        for _ in itertools.takewhile(lambda size: size == 1, sizes[1 + 2 * rank :]):
            yield None
    yield from shape
    yield from strides
