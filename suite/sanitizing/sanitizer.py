"""The sanitizer itself: hooks in the interpreter's builder and launches of its own, for as long as it is in force.

Hooks call what they found in their place, so that others may have theirs below or above.
"""

from __future__ import annotations

import ctypes
import inspect
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter
from triton.tools.tensor_descriptor import TensorDescriptor

from suite import interpreting
from suite.sanitizing.areas import APART, AREAS, FIRST_ADDRESS, Area, area_of, areas_of, joined
from suite.sanitizing.findings import Finding, Findings, place_in_kernel
from suite.sanitizing.shadow import Shadow, threads_of

# What CUDA takes of programs along x, y and z.
GRID_LIMITS = (2**31 - 1, 65535, 65535)
# A tensor descriptor's base address, its strides and the first byte of a block.
DESCRIPTOR_ALIGNMENT = 16
WARP = 32
DEFAULT_WARPS = 4
SHUFFLE_SEED = 7
# An index or a mask made of it shows. It lies before every tensor, is odd, and its sums over a block do not overflow.
PATTERN = -1234567
# Beside NaN, which comparisons and maxima drop: larger than most that a kernel computes with, and in every format.
LARGE = 2.0**15
OVERFLOW = "sanitizer.overflow"
# Operations that keep what a pointer came from, and which of its lanes overflowed, in a new shape.
_RESHAPING = ("splat", "unsplat", "broadcast", "expand_dims", "reshape", "trans")
_KEEPING = ("select", "bitcast", "cat", "join", "split")
_ARITHMETIC: dict[str, Callable[..., Any]] = {"add": np.add, "sub": np.subtract, "mul": np.multiply}

Program = tuple[int, int, int]


class Sanitizer:
    """Looks at every launch inside the block; `findings` tells what it saw.

    orders:  run the programs of each launch in reverse and shuffled too, and compare what they write bit for bit
    poison:  what lanes get that a mask leaves out of a load without `other`: NaN or LARGE in floats, PATTERN in
             integers; None: what lies there
    only:    poison loads at this place only
    look:    False: poison only, at the speed of the interpreter

    launches: how many there were
    poisoned: (kernel, tensor) of each place at which lanes were poisoned
    Lanes out of bounds neither read nor write. Tensors on the device `meta` do not exist: their loads give zeros, and
    of a launch that has one only a few programs run, the first and the last among them.
    """

    def __init__(
        self, *, orders: bool = True, poison: float | None = np.nan, only: str | None = None, look: bool = True
    ) -> None:
        self.orders, self.poison, self.only, self.look = orders and look, poison, only, look
        self.launches = 0
        self.poisoned: dict[str, tuple[str, str]] = {}
        self._findings = Findings()
        self._replaced: list[tuple[Any, str, Any]] = []
        self._areas: list[Area] = []
        self._shadows: dict[tuple[int, int], Shadow] = {}
        self._addresses: dict[int, tuple[torch.UntypedStorage, int]] = {}
        self._next = FIRST_ADDRESS
        self._kernel = self._argument = ""
        self._grid: Program = (1, 1, 1)
        self._program: Program = (0, 0, 0)
        self._number = self._span = 0
        self._threads = WARP * DEFAULT_WARPS
        self._recording = self._invented = self._has_other = False

    @property
    def findings(self) -> list[Finding]:
        return list(self._findings)

    def __enter__(self) -> Sanitizer:
        self._wrapped = interpreting.install()
        try:
            self._install()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        while self._replaced:
            owner, name, original = self._replaced.pop()
            setattr(owner, name, original)
        self._areas, self._shadows, self._addresses = [], {}, {}
        if self._wrapped:
            interpreting.uninstall()

    # What is replaced in the interpreter

    def _install(self) -> None:
        builder = interpreter.InterpreterBuilder
        sanitizer = self

        def launch(executor: Any, *args: Any, **kwargs: Any) -> None:
            sanitizer._launch(executor, args, kwargs)

        self._replace(interpreter.GridExecutor, "__call__", lambda _: launch)
        for name in _RESHAPING:
            self._replace(builder, f"create_{name}", self._reshaping)
        for name in _KEEPING:
            self._replace(builder, f"create_{name}", self._keeping)
        for name, operation in _ARITHMETIC.items():
            self._replace(builder, f"create_{name}", lambda original, op=operation: self._exact(original, op))
        self._replace(builder, "create_int_cast", self._casting)
        self._replace(builder, "create_addptr", self._moving)
        self._replace(interpreter.TritonSemantic, "load", self._asking)
        self._replace(builder, "create_masked_load", self._loading)
        self._replace(builder, "create_masked_store", self._storing)
        self._replace(builder, "create_atomic_rmw", self._changing)
        self._replace(builder, "create_atomic_cas", self._swapping)
        self._replace(builder, "create_barrier", self._waiting)
        self._replace(builder, "create_make_tensor_descriptor", self._describing)
        for name in ("TensorDescHandle", "BlockPointerHandle"):
            if hasattr(interpreter, name):
                self._replace(getattr(interpreter, name), "materialize_pointers", self._materializing)

    def _replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        original = getattr(owner, name)
        setattr(owner, name, make(original))
        self._replaced.append((owner, name, original))

    def _reshaping(self, original: Any) -> Any:
        def hook(builder: Any, *args: Any) -> Any:
            out = original(builder, *args)
            source = next(arg for arg in args if isinstance(arg, interpreter.TensorHandle))
            if source.attr:
                if areas := areas_of(source):
                    out.attr[AREAS] = areas
                if found := source.attr.get(OVERFLOW):
                    lanes = interpreter.TensorHandle(np.broadcast_to(found[0], source.data.shape), tl.int1)
                    moved = original(builder, *(lanes if arg is source else arg for arg in args))
                    out.attr[OVERFLOW] = (moved.data, found[1])
            return out

        return hook

    def _keeping(self, original: Any) -> Any:
        def hook(builder: Any, *args: Any) -> Any:
            out = original(builder, *args)
            if areas := joined([arg for arg in args if isinstance(arg, interpreter.TensorHandle)]):
                for each in out if isinstance(out, tuple) else (out,):
                    each.attr[AREAS] = areas
            return out

        return hook

    def _exact(self, original: Any, operation: Callable[..., Any]) -> Any:
        def hook(builder: Any, lhs: Any, rhs: Any) -> Any:
            out = original(builder, lhs, rhs)
            if not self._recording or out.dtype.scalar != tl.int32:
                return out
            wrapped = operation(lhs.data.astype(np.int64), rhs.data.astype(np.int64)) != out.data
            place = place_in_kernel() if wrapped.any() else ""
            for each in (lhs, rhs):
                if found := each.attr.get(OVERFLOW):
                    wrapped, place = wrapped | found[0], place or found[1]
            if place:
                out.attr[OVERFLOW] = (wrapped, place)
            return out

        return hook

    def _casting(self, original: Any) -> Any:
        def hook(builder: Any, source: Any, *rest: Any) -> Any:
            out = original(builder, source, *rest)
            if found := source.attr.get(OVERFLOW):
                out.attr[OVERFLOW] = found
            return out

        return hook

    def _moving(self, original: Any) -> Any:
        def hook(builder: Any, pointer: Any, offset: Any) -> Any:
            out = original(builder, pointer, offset)
            if areas := areas_of(pointer):
                out.attr[AREAS] = areas
            for each in (pointer, offset):
                if found := each.attr.get(OVERFLOW):
                    out.attr[OVERFLOW] = (np.broadcast_to(found[0], out.data.shape), found[1])
            return out

        return hook

    def _asking(self, original: Any) -> Any:
        def hook(semantic: Any, pointer: Any, mask: Any, other: Any, *rest: Any, **words: Any) -> Any:
            # The interpreter drops an `other` of one element that is 0, and gives zeros as well.
            self._has_other = other is not None
            try:
                return original(semantic, pointer, mask, other, *rest, **words)
            finally:
                self._has_other = False

        return hook

    def _loading(self, original: Any) -> Any:
        def hook(builder: Any, pointers: Any, mask: Any, other: Any, *rest: Any, **words: Any) -> Any:
            wanted, kept, areas = self._lanes(pointers, mask, "reads")
            self._note(pointers, kept, areas, None)
            if not _exist(areas):
                kept = np.zeros_like(kept)
            out = original(builder, pointers, interpreter.TensorHandle(kept, tl.int1), other, *rest, **words)
            if other is None and not self._has_other and self.poison is not None and not wanted.all():
                self._poisoned(out, wanted, areas, self.poison)
            return out

        return hook

    def _poisoned(self, out: Any, wanted: np.ndarray, areas: tuple[Area, ...], value: float) -> None:
        place = place_in_kernel()
        if self.only not in (None, place):
            return
        self.poisoned.setdefault(place, (self._kernel, _names(areas)))
        data = np.array(out.data)
        data[~wanted] = poison_of(data.dtype, out.dtype.scalar, value)
        out.data = data

    def _storing(self, original: Any) -> Any:
        def hook(builder: Any, pointers: Any, value: Any, mask: Any, *rest: Any, **words: Any) -> Any:
            _, kept, areas = self._lanes(pointers, mask, "writes")
            if not _exist(areas):
                return None
            before = _bits(pointers, kept) if self._recording else None
            out = original(builder, pointers, value, interpreter.TensorHandle(kept, tl.int1), *rest, **words)
            self._note(pointers, kept, areas, before)
            return out

        return hook

    def _changing(self, original: Any) -> Any:
        def hook(builder: Any, operation: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
            _, kept, areas = self._lanes(pointers, mask, "changes")
            if not _exist(areas):
                return interpreter.TensorHandle(np.zeros_like(value.data), value.dtype.scalar)
            self._note(pointers, kept, areas, None, atomic=True)
            return original(builder, operation, pointers, value, interpreter.TensorHandle(kept, tl.int1), *rest)

        return hook

    def _swapping(self, original: Any) -> Any:
        def hook(builder: Any, pointers: Any, expected: Any, value: Any, *rest: Any) -> Any:
            mask = interpreter.TensorHandle(np.ones(pointers.data.shape, dtype=bool), tl.int1)
            _, kept, areas = self._lanes(pointers, mask, "changes")
            if not kept.all() or not _exist(areas):
                return interpreter.TensorHandle(np.zeros_like(value.data), value.dtype.scalar)
            self._note(pointers, kept, areas, None, atomic=True)
            return original(builder, pointers, expected, value, *rest)

        return hook

    def _waiting(self, original: Any) -> Any:
        def hook(builder: Any, *args: Any, **words: Any) -> Any:
            self._span += 1
            return original(builder, *args, **words)

        return hook

    def _describing(self, original: Any) -> Any:
        def hook(builder: Any, base: Any, shape: Any, strides: Any, *rest: Any, **words: Any) -> Any:
            item = _item(base)
            name = _names(areas_of(base)) or self._argument
            if wrong := int(base.data.item()) % DESCRIPTOR_ALIGNMENT:
                self._misaligned(name, f"the base of a descriptor of {name} is {wrong} bytes past a multiple of 16")
            for dim, stride in enumerate(strides[:-1]):
                if (size := int(stride.data.item()) * item) % DESCRIPTOR_ALIGNMENT:
                    text = f"stride {dim} of a descriptor of {name} is {size} bytes, not a multiple of 16"
                    self._misaligned(name, text)
            if strides and (last := int(strides[-1].data.item())) != 1:
                self._misaligned(name, f"the last stride of a descriptor of {name} is {last}, not 1")
            return original(builder, base, shape, strides, *rest, **words)

        return hook

    def _materializing(self, original: Any) -> Any:
        def hook(handle: Any, given: Any) -> Any:
            areas = areas_of(handle.base)
            if hasattr(handle, "block_shape") and hasattr(handle, "padding"):
                start = int(np.asarray(given[-1].data).item()) * _item(handle.base)
                if wrong := start % DESCRIPTOR_ALIGNMENT:
                    text = f"a block of a descriptor of {_names(areas)} begins {wrong} bytes past a multiple of 16"
                    self._misaligned(_names(areas), text)
            pointers, mask = original(handle, given)
            pointers.attr[AREAS] = areas
            return pointers, mask

        return hook

    # Accesses

    def _lanes(self, pointers: Any, mask: Any, does: str) -> tuple[np.ndarray, np.ndarray, tuple[Area, ...]]:
        """(lanes that the mask keeps, those of them inside of their tensor, the tensors); the others are reported."""
        wanted = np.ascontiguousarray(np.broadcast_to(np.asarray(mask.data), pointers.data.shape)).astype(bool)
        addresses = pointers.data[wanted]
        areas = areas_of(pointers) or tuple(area for area in self._areas if area.has(addresses, 1).any())
        if not addresses.size:
            return wanted, wanted, areas
        size = _item(pointers)
        inside = np.zeros(addresses.shape, dtype=bool)
        for area in areas:
            inside |= area.has(addresses, size)
        found = pointers.attr.get(OVERFLOW)
        overflows = found is not None and bool(found[0][wanted].any())
        if overflows:
            assert found is not None
            self._report_overflow(pointers, wanted, areas, found[1])
        if inside.all():
            self._look_at_alignment(addresses, size, areas, does)
            return wanted, wanted, areas
        if not overflows:
            self._report_bounds(addresses[~inside], areas, does)
        kept = wanted.copy()
        kept[wanted] = inside
        return wanted, kept, areas

    def _report_bounds(self, outside: np.ndarray, areas: tuple[Area, ...], does: str) -> None:
        if not areas:
            self._report("out of bounds", "", f"{does} {outside.size} elements that are of no tensor it was given")
            return
        area = min(areas, key=lambda each: each.distance(int(outside[0])))
        where = f"offsets {_span(area.offsets(outside))} of {_named((area,))}"
        self._report("out of bounds", area.name, f"{does} {where}: {_count(outside.size, 'element')}", does=does)

    def _report_overflow(self, pointers: Any, wanted: np.ndarray, areas: tuple[Area, ...], place: str) -> None:
        offsets = f" comes out as {_span(areas[0].offsets(pointers.data[wanted]))}" if areas else ""
        text = f"int32 arithmetic overflows in an offset into {_named(areas)}, which{offsets or ' is wrong'}"
        self._report("overflow", _names(areas), text, place)

    def _look_at_alignment(self, addresses: np.ndarray, size: int, areas: tuple[Area, ...], does: str) -> None:
        if self._recording and ((addresses % np.uint64(size)) != 0).any():
            self._misaligned(_names(areas), f"{does} elements of {size} bytes of {_named(areas)} at other addresses")

    def _misaligned(self, name: str, text: str) -> None:
        self._report("misaligned", name, text)

    def _note(
        self,
        pointers: Any,
        kept: np.ndarray,
        areas: tuple[Area, ...],
        before: np.ndarray | None,
        *,
        atomic: bool = False,
    ) -> None:
        """Note who reads or writes, and report races. before: of a store, the bits that it replaced."""
        if not self._recording or not _exist(areas) or not kept.any():
            return
        addresses = pointers.data[kept].astype(np.int64)
        threads = threads_of(kept.shape, kept, self._threads)
        changed = None if before is None else (before != _bits(pointers, kept))[kept]
        for storage in dict.fromkeys(area.storage for area in areas):
            shadow = self._shadows.get(storage)
            if shadow is None:
                shadow = self._shadows[storage] = Shadow(storage[1])
            here = (addresses >= storage[0]) & (addresses < storage[0] + storage[1])
            at, mine = addresses[here] - storage[0], threads[here]
            if atomic:
                found = shadow.touch(at, mine, self._number, self._span)
            elif changed is None:
                found = shadow.read(at, mine, self._number, self._span)
            else:
                found = shadow.write(at, mine, self._number, self._span, changed[here])
            if found:
                address = addresses[here][found.first]
                own = [area for area in areas if area.has(np.array([address], dtype=np.uint64), 1).any()] or [areas[0]]
                where = f"offset {own[0].offsets(np.array([address]))[0]} of {_named((own[0],))}"
                does = found.does.format(other=self._numbered(found.other))
                self._report(found.kind, own[0].name, f"at {where} {does}")

    def _report(self, kind: str, tensor: str, text: str, place: str | None = None, does: str = "") -> None:
        if not self._recording:
            return
        who = f"program {self._program} of {self._grid} of {self._kernel}"
        self._findings.add(kind, self._kernel, tensor, f"{who} {text}", place or place_in_kernel(), does)

    def _numbered(self, number: int) -> Program:
        """A program's place in the grid, of its number from 1."""
        _, y, z = self._grid
        return (number - 1) // (y * z), (number - 1) // z % y, (number - 1) % z

    # Launches

    def _launch(self, executor: Any, args: tuple[Any, ...], words: dict[str, Any]) -> None:
        spec = inspect.getfullargspec(executor.fn)
        self._kernel, self._threads = executor.fn.__name__, WARP * int(words.get("num_warps", DEFAULT_WARPS))
        self._areas, self._shadows = [], {}
        self.launches += 1
        words = {name: value for name, value in words.items() if name in spec.args or name in spec.kwonlyargs}
        for hook in executor.pre_run_hooks:
            hook(*args, **words)
        named = inspect.getcallargs(executor.fn, *args, **words)
        self._invented = any(x.device.type == "meta" for x in _tensors(list(named.values())))
        scope = interpreter._patch_lang(executor.fn)
        try:
            given = {n: x if n in executor.constexprs else self._given(n, x) for n, x in named.items()}
            grid: Any = executor.grid(given) if callable(executor.grid) else executor.grid
            whole = tuple(int(size) for size in grid) + (1,) * (3 - len(grid))
            self._grid = whole[0], whole[1], whole[2]
            self._look_at_grid()
            interpreter.interpreter_builder.set_grid_dim(*self._grid)
            self._run_programs(executor.fn, given)
        finally:
            self._recording = False
            scope.restore()

    def _look_at_grid(self) -> None:
        for axis, size, most in zip("xyz", self._grid, GRID_LIMITS, strict=True):
            if size > most:
                text = f"{self._kernel} is launched with {size} programs along {axis}; CUDA takes {most} at most"
                self._findings.add("grid", self._kernel, "", text, "")

    def _given(self, name: str, value: Any) -> Any:
        """An argument as the interpreter takes it, with the areas of its tensors."""
        if hasattr(value, "data_ptr"):
            area = self._area(name, interpreter._unwrap_tensor(value))
            made = interpreter._implicit_cvt(value)
            made.handle.data = np.array([area.first], dtype=np.uint64)
            made.handle.attr[AREAS] = (area,)
            return made
        if isinstance(value, tuple):
            fields = [f".{x}" for x in getattr(value, "_fields", ())] or [f"[{i}]" for i in range(len(value))]
            parts = [self._given(f"{name}{field}", x) for field, x in zip(fields, value, strict=True)]
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        if isinstance(value, TensorDescriptor):
            area = self._area(name, interpreter._unwrap_tensor(value.base))
            self._argument, self._recording = name, self.look
            made = interpreter._implicit_cvt(value)
            self._recording = False
            made.handle.base.data = np.array([area.first], dtype=np.uint64)
            made.handle.base.attr[AREAS] = (area,)
            return made
        return interpreter._implicit_cvt(value)

    def _area(self, name: str, x: torch.Tensor) -> Area:
        address = None
        if x.device.type == "meta":
            storage = x.untyped_storage()
            _, address = self._addresses.get(storage._cdata, (storage, self._next))
            if storage._cdata not in self._addresses:
                self._addresses[storage._cdata] = (storage, address)
                self._next += (storage.nbytes() // APART + 2) * APART
        area = area_of(name, x, address)
        self._areas.append(area)
        return area

    def _run_programs(self, fn: Any, given: dict[str, Any]) -> None:
        _, y, z = self._grid
        count = self._grid[0] * y * z
        if self._invented:
            chosen = {0, 1, count // 3, count // 2, count - 2, count - 1}
            self._run_in_order(fn, given, sorted(i for i in chosen if 0 <= i < count))
            return
        memory = {place: _memory(place) for place in dict.fromkeys(area.storage for area in self._areas) if place[1]}
        before = {place: bytes_.copy() for place, bytes_ in memory.items()} if self.orders and count > 1 else {}
        self._run_in_order(fn, given, list(range(count)))
        if not before:
            return
        after = {place: bytes_.copy() for place, bytes_ in memory.items()}
        shuffled = list(range(count))
        random.Random(SHUFFLE_SEED).shuffle(shuffled)
        for order, numbers in (("reversed", list(range(count))[::-1]), ("shuffled", shuffled)):
            for place, bytes_ in memory.items():
                bytes_[:] = before[place]
            self._run_in_order(fn, given, numbers, again=True)
            self._compare(order, memory, after)
        for place, bytes_ in memory.items():
            bytes_[:] = after[place]

    def _run_in_order(self, fn: Any, given: dict[str, Any], numbers: list[int], again: bool = False) -> None:
        for number in numbers:
            self._number, self._span = number + 1, self._span + 1
            self._program = self._numbered(number + 1)
            self._recording = self.look and not again
            interpreter.interpreter_builder.set_grid_idx(*self._program)
            try:
                fn(**given)
            except Exception as error:
                raise interpreter.InterpreterError(repr(error)) from error
            finally:
                self._recording = False

    def _compare(self, order: str, memory: dict[Any, np.ndarray], after: dict[Any, np.ndarray]) -> None:
        for area in self._areas:
            if area.storage not in memory:
                continue
            differs = memory[area.storage] != after[area.storage]
            addresses = np.flatnonzero(differs).astype(np.uint64) + np.uint64(area.storage[0])
            addresses = addresses[area.has(addresses, 1)]
            if not addresses.size:
                continue
            offsets = np.unique(area.offsets(addresses))
            shadow = self._shadows.get(area.storage)
            by = int(shadow.writer[int(addresses[0]) - area.storage[0]]) if shadow else 0
            last = f"; offset {offsets[0]} is last written by program {self._numbered(by)}" if by else ""
            text = (
                f"{self._kernel} writes other bits to {_named((area,))} when its programs {self._grid} run "
                f"{order}, at {_count(offsets.size, 'offset')}, {_span(offsets)}{last}"
            )
            self._findings.add("order", self._kernel, area.name, text, "")


def poison_of(dtype: np.dtype, kind: Any, value: float) -> Any:
    """What a masked-off lane holds: `value`, or PATTERN cut to the integer's size. kind: Triton's type."""
    if dtype.kind == "f":
        return value
    if dtype.kind == "b":
        return True
    if kind.is_floating():
        # 8 bits of a float: NaN, or the largest.
        return 0x7F if np.isnan(value) else 0x7B
    return np.array([PATTERN], dtype=np.int64).astype(dtype)[0]


def _exist(areas: tuple[Area, ...]) -> bool:
    return all(area.exists for area in areas)


def _tensors(values: list[Any]) -> list[torch.Tensor]:
    found = list[torch.Tensor]()
    for value in values:
        if isinstance(value, tuple):
            found += _tensors(list(value))
        elif isinstance(value, TensorDescriptor):
            found.append(value.base)
        elif hasattr(value, "data_ptr"):
            found.append(interpreter._unwrap_tensor(value))
    return found


def _item(pointers: Any) -> int:
    """Bytes of the elements that pointers point at."""
    return max(1, pointers.get_element_ty().primitive_bitwidth // 8)


def _bits(pointers: Any, mask: np.ndarray) -> np.ndarray:
    """The bits at the addresses that a mask keeps; 0 elsewhere."""
    dtype = np.dtype(f"u{_item(pointers)}")
    return interpreter._interpreter.load(pointers.data, mask, np.zeros(mask.shape, dtype=dtype), dtype)


def _memory(place: tuple[int, int]) -> np.ndarray:
    """The bytes of a storage, to read and write."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * place[1]).from_address(place[0]))


def _names(areas: tuple[Area, ...]) -> str:
    return " or ".join(area.name for area in areas)


def _named(areas: tuple[Area, ...]) -> str:
    return " or ".join(f"{area.name}, of shape {list(area.shape)}" for area in areas) or "no tensor that it was given"


def _span(offsets: np.ndarray) -> str:
    least, most = int(offsets.min()), int(offsets.max())
    return f"{least}" if least == most else f"{least} to {most}"


def _count(count: int, of: str) -> str:
    return f"{count} {of}" + ("" if count == 1 else "s")
