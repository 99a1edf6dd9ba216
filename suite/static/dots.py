"""The products of a kernel, and which of them warps compute more than once; read off its TTGIR.

TTGIR gives the result of a product a layout, which says what each warp (or thread) holds and therefore computes::

    #mma = #ttg.nvidia_mma<{versionMajor = 3, versionMinor = 0, warpsPerCTA = [8, 1], instrShape = [16, 64, 16]}>
    %5 = ttng.warp_group_dot %2, %3, %4 {…} : !ttg.memdesc<64x64xbf16, …> * … -> tensor<64x64xf32, #mma>

Along a dimension of `size` elements, `holders` share out tiles of `tile` elements:

- nvidia_mma: warps, and what one instruction gives a warp. Ampere's instruction (version 2) gives it 16 x 8, in batched
  products 1 x 16 x 8. Hopper's (version 3) gives a warp 16 rows of all its columns: a group of four warps has 64 rows.
- blocked: threads, and what one of them holds. These products run on CUDA cores.

There are ceil(size / tile) tiles. Where there are fewer of them than holders, Triton begins again from the first tile:
holders / tiles of them compute the same. Above, 64 / 16 = 4 tiles of rows go to 8 warps, so each row is computed twice.
This is Triton's own rule: in its linear layout such a warp, or lane, has a basis of zeros.

Blackwell's `ttng.tc_gen5_mma` writes to tensor memory and is issued once for a block, however many warps it has.

How the operands (`#ttg.dot_op`) lie does not count: every warp that needs a row of an operand holds it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from suite.static.model import Dots

_ALIAS = re.compile(r"^(#\w+) = #ttg\.(\w+)<\{(.*)\}>", re.MULTILINE)
_NUMBER = re.compile(r"\d+")
_FIELD = re.compile(r"(\w+) = (\d+|\[\d+(?:, \d+)*\])(?:, |$)")
# `%1 = tt.dot %2, …`, `%3:2 = …`, `%b_s = …`, or no result.
_OPERATION = re.compile(r"^\s*(?:%[^=]+ = )?(tt\w*\.\w*(?:dot|mma)\w*) (.*)$", re.MULTILINE)
_OPERAND = re.compile(r"(?:tensor|!ttg\.memdesc)<(\d+(?:x\d+)*)x")
_RESULT = re.compile(r"-> tensor<[^,<>]+, (#\w+)>")
_MMA = {"versionMajor", "versionMinor", "warpsPerCTA", "instrShape"}
_BLOCKED = {"sizePerThread", "threadsPerWarp", "warpsPerCTA", "order"}
_CTAS = re.compile(r'"ttg\.num-ctas" = (\d+)')


class _UnreadError(Exception):
    """Something in the TTGIR that is not known here; its text says what."""


@dataclass(frozen=True)
class Layout:
    """Who computes what of a product, along each dimension of its result.

    holders: warps, or threads of a blocked layout
    tile:    elements that one holder gets at a time
    padded:  whether it computes the whole tile, also where the result is shorter: an instruction does
    """

    holders: tuple[int, ...]
    tile: tuple[int, ...]
    padded: bool

    def copies(self, shape: tuple[int, ...]) -> int:
        """How many holders compute the same element."""
        tiles = (-(-size // tile) for size, tile in zip(shape, self.tile, strict=True))
        return math.prod(max(1, holders // count) for holders, count in zip(self.holders, tiles, strict=True))

    def computed(self, shape: tuple[int, ...]) -> int:
        """Elements that all holders compute together, equal ones counted again."""
        tiles = self.tile if self.padded else map(min, self.tile, shape)
        return math.prod(max(size, n * tile) for size, n, tile in zip(shape, self.holders, tiles, strict=True))


@dataclass(frozen=True)
class _Product:
    copies: int
    flops: int
    flops_exec: int


def dots_of(ttgir: str | None) -> Dots:
    """The products in a kernel's TTGIR; None is a kernel without one. What is not known is the reason of the answer."""
    if ttgir is None:
        return Dots(reason="Triton gives no TTGIR of this kernel")
    try:
        found = list(_products(ttgir))
    except _UnreadError as error:
        return Dots(reason=str(error))
    return Dots(
        total=len(found),
        replicated=sum(each.copies > 1 for each in found),
        flops=sum(each.flops for each in found),
        flops_exec=sum(each.flops_exec for each in found),
    )


def _products(ttgir: str) -> Iterator[_Product]:
    layouts = {name: (kind, body) for name, kind, body in _ALIAS.findall(ttgir)}
    ctas = _CTAS.search(ttgir)
    for operation, rest in _OPERATION.findall(ttgir):
        if operation == "ttng.warp_group_dot_wait":
            continue
        if ctas is None or ctas[1] != "1":
            raise _UnreadError("products of several CTAs together are not read")
        # The operand's type: shapes of A and B, then of the result.
        shapes = [tuple(map(int, found.split("x"))) for found in _OPERAND.findall(rest)]
        if operation in ("tt.dot", "ttng.warp_group_dot"):
            yield _shared_out(operation, shapes, _RESULT.search(rest), layouts)
        elif operation == "ttng.tc_gen5_mma":
            flops = _flops(operation, shapes)
            yield _Product(1, flops, flops)
        else:
            raise _UnreadError(f"{operation} is not known")


def _shared_out(
    operation: str,
    shapes: list[tuple[int, ...]],
    result: re.Match[str] | None,
    layouts: Mapping[str, tuple[str, str]],
) -> _Product:
    flops, shape = _flops(operation, shapes), shapes[2]
    if result is None or result[1] not in layouts:
        raise _UnreadError(f"the result of {operation} has no layout that is known")
    kind, body = layouts[result[1]]
    layout = _layout(kind, body, len(shape))
    return _Product(layout.copies(shape), flops, flops // math.prod(shape) * layout.computed(shape))


def _flops(operation: str, shapes: list[tuple[int, ...]]) -> int:
    """2 m n k, for each of the batch."""
    if len(shapes) < 3:
        raise _UnreadError(f"the types of {operation} have another form")
    a, b, result = shapes[:3]
    if len({len(a), len(b), len(result)}) > 1 or (*a[:-1], *b[-1:]) != result or a[-1] != b[-2]:
        raise _UnreadError(f"the shapes of {operation} do not agree: {a} x {b} -> {result}")
    return 2 * math.prod(result) * a[-1]


def _layout(kind: str, body: str, rank: int) -> Layout:
    fields = {name: tuple(map(int, _NUMBER.findall(text))) for name, text in _FIELD.findall(body)}
    layout = None
    # Nothing may be left: a field that is not known here, such as CGALayout, could change who computes what.
    if not _FIELD.sub("", body):
        if kind == "nvidia_mma" and fields.keys() == _MMA:
            layout = _of_warps(fields)
        elif kind == "blocked" and fields.keys() == _BLOCKED:
            layout = _of_threads(fields)
    if layout is None or not len(layout.holders) == len(layout.tile) == rank:
        raise _UnreadError(f"the layout {kind}<{{{body}}}> is not known")
    return layout


def _of_warps(fields: Mapping[str, tuple[int, ...]]) -> Layout | None:
    (version,), tile = fields["versionMajor"], fields["instrShape"]
    if version not in (2, 3):
        return None
    # Hopper's instrShape is m, n, k.
    return Layout(fields["warpsPerCTA"], tile[:2] if version == 3 else tile, padded=True)


def _of_threads(fields: Mapping[str, tuple[int, ...]]) -> Layout:
    threads = tuple(map(math.prod, zip(fields["threadsPerWarp"], fields["warpsPerCTA"], strict=True)))
    return Layout(threads, fields["sizePerThread"], padded=False)
