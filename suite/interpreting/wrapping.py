"""What of Triton's interpreter is wrapped, so that it computes bfloat16, TF32, masks and loops as a GPU does.

A block of bfloat16 is held as float32 values that bfloat16 can represent. Memory holds 16 bits each, so loads, stores,
atomics and bitcasts convert; operations compute in float32 and round their result to nearest even, ties to even.

A wrapper takes what it wraps from the class, and calls it: others may wrap the same methods before or after. A method
that a Triton lacks is not wrapped. Whether what is there computes rightly is for the probes to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from suite.interpreting.formats import (
    bf16_of_bits,
    bits_of_bf16,
    cut_tf32,
    fused_bf16,
    nearest_bf16,
    nearest_tf32,
    toward_zero_bf16,
)
from suite.interpreting.loops import counting
from suite.interpreting.quick import in_debug_mode, once_a_launch

Method = Callable[..., Any]

LOAD, STORE = "create_masked_load", "create_masked_store"

_replaced: list[tuple[Any, str, Any]] = []


def install() -> bool:
    """Wrap this process's interpreter; whether it was not wrapped yet."""
    if _replaced:
        return False
    from triton.runtime import interpreter

    builder = interpreter.InterpreterBuilder
    wrappers = {
        interpreter: _functions(interpreter),
        builder: _methods(interpreter),
        interpreter.ReduceOps: {"sum": _in_halves},
        interpreter.ScanOps: {"cumsum": _in_turn(np.add), "cumprod": _in_turn(np.multiply)},
        interpreter.FunctionRewriter: {"_compile_and_exec": counting},
        interpreter.TritonSemantic: {"binary_op_sanitize_overflow_impl": in_debug_mode},
    }
    _forget_rewritten(interpreter)
    for holder, each in wrappers.items():
        for name, wrap in each.items():
            if (original := vars(holder).get(name)) is not None:
                _replace(holder, name, wrap(original))
    # Triton 3.6 has none, and so no constants.
    if not hasattr(builder, "get_bf16"):
        _replace(builder, "get_bf16", _constant(interpreter.TensorHandle))
    return True


def uninstall() -> None:
    """Put back what `install` replaced. Who wrapped the same methods since then must have put them back before."""
    if _replaced:
        from triton.runtime import interpreter

        _forget_rewritten(interpreter)
    while _replaced:
        holder, name, original = _replaced.pop()
        if original is None:
            delattr(holder, name)
        else:
            setattr(holder, name, original)


def _forget_rewritten(interpreter: Any) -> None:
    """Kernels that ran before are rewritten anew: how their loops count is written into them."""
    interpreter.InterpretedFunction.rewritten_fn.clear()


def _replace(holder: Any, name: str, new: Method) -> None:
    _replaced.append((holder, name, vars(holder).get(name)))
    setattr(holder, name, new)


def _is_bf16(dtype: Any) -> bool:
    return dtype.scalar.name == "bf16"


def _rounding(original: Method) -> Method:
    """A method whose result is rounded when it is of bfloat16."""

    def rounding(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        # What compares has the type of its operands, and elements of bool.
        if _is_bf16(result.dtype) and result.data.dtype != np.bool_:
            result.data = nearest_bf16(result.data)
        return result

    return rounding


def _in_halves(original: Method) -> Method:
    """A sum of bfloat16 whose halves are added until one is left, each time rounded; a GPU adds in a tree too."""

    def summed(self: Any, block: Any) -> Any:
        if not _is_bf16(block.dtype):
            return original(self, block)
        data, axis = block.handle.data, self.axis
        shape = [1 if axis in (None, dim) else size for dim, size in enumerate(data.shape)]
        rest = data.ravel() if axis is None else np.moveaxis(data, axis, 0)
        while (half := len(rest) // 2) > 0:
            rest = nearest_bf16(rest[:half] + rest[half:])
        return self.to_tensor(rest.reshape(shape) if self.keep_dims else rest[0], block.dtype)

    return summed


def _in_turn(step: Callable[[Any, Any], Any]) -> Callable[[Method], Method]:
    """A scan of bfloat16 that rounds after each step."""

    def wrap(original: Method) -> Method:
        def scanned(self: Any, block: Any) -> Any:
            if not _is_bf16(block.dtype):
                return original(self, block)
            partial = np.moveaxis(block.handle.data, self.axis, 0).copy()
            for i in range(1, len(partial)):
                partial[i] = nearest_bf16(step(partial[i - 1], partial[i]))
            return [self.to_tensor(np.moveaxis(partial, 0, self.axis), block.dtype)]

        return scanned

    return wrap


def _constant(handle: Any) -> Method:
    import triton.language as tl

    def constant(self: Any, value: float) -> Any:
        return handle(nearest_bf16(np.array([value], dtype=np.float64)), tl.bfloat16)

    return constant


def _functions(interpreter: Any) -> Mapping[str, Callable[[Method], Method]]:
    """Wrappers of the module's functions: how elements are held and arguments converted, what a launch patches."""
    import triton.language as tl

    def held(original: Method) -> Method:
        def held_as(dtype: Any) -> np.dtype[Any]:
            return np.dtype(np.float32) if _is_bf16(dtype) else original(dtype)

        return held_as

    def fits(original: Method) -> Method:
        def fits_in(data: Any, dtype: Any) -> bool:
            return original(data, tl.float32 if _is_bf16(dtype) else dtype)

        return fits_in

    def convert(original: Method) -> Method:
        def argument(value: Any) -> Any:
            """An argument of a launch. A Python float is a scalar of fp32 in a compiled kernel, and no literal."""
            if isinstance(value, float):
                return tl.tensor(interpreter.TensorHandle(np.array([value], dtype=np.float32), tl.float32), tl.float32)
            return original(value)

        return argument

    return {
        "_get_np_dtype": held,
        "_validate_np_data_size": fits,
        "_implicit_cvt": convert,
        "_patch_lang": once_a_launch,
    }


def _methods(interpreter: Any) -> Mapping[str, Callable[[Method], Method]]:
    """Wrappers of the builder's methods beside those that only round."""
    import triton.language as tl

    builder, handle = interpreter.InterpreterBuilder, interpreter.TensorHandle
    precisions = interpreter._ir.INPUT_PRECISION
    toward_zero = interpreter._ir.ROUNDING_MODE.RTZ
    # Triton 3.9 has one cache policy, where those before have a cache modifier and an eviction policy.
    policies = (None,) if hasattr(builder, "get_cache_policy") else (None, None)

    def of_bits(pointers: Any) -> Any:
        """The same addresses as those of 16 bits each, with what others know of them."""
        return handle(pointers.data, tl.pointer_type(tl.uint16), pointers.attr)

    def bits(block: Any) -> Any:
        return handle(bits_of_bf16(block.data), tl.uint16, block.attr)

    def values(block: Any) -> Any:
        return handle(bf16_of_bits(block.data), tl.bfloat16, block.attr)

    def load(original: Method) -> Method:
        def masked_load(self: Any, pointers: Any, mask: Any, other: Any, *args: Any, **kwargs: Any) -> Any:
            if not _is_bf16(pointers.get_element_ty()):
                return original(self, pointers, mask, other, *args, **kwargs)
            other = None if other is None else bits(other)
            return values(original(self, of_bits(pointers), mask, other, *args, **kwargs))

        return masked_load

    def store(original: Method) -> Method:
        def masked_store(self: Any, pointers: Any, value: Any, mask: Any, *args: Any, **kwargs: Any) -> Any:
            if _is_bf16(pointers.get_element_ty()):
                pointers, value = of_bits(pointers), bits(value)
            return original(self, pointers, value, mask, *args, **kwargs)

        return masked_store

    # Those that are hooked look at accesses of the kernel's own, and the parts of an atomic operation are none.
    own_load, own_store = (wrap(vars(builder)[name]) for wrap, name in ((load, LOAD), (store, STORE)))

    def compare_and_swap(original: Method) -> Method:
        def atomic_cas(self: Any, pointers: Any, expected: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
            if not _is_bf16(pointers.get_element_ty()):
                return original(self, pointers, expected, value, *args, **kwargs)
            return values(original(self, of_bits(pointers), bits(expected), bits(value), *args, **kwargs))

        return atomic_cas

    def read_modify_write(original: Method) -> Method:
        def atomic_rmw(self: Any, op: Any, pointers: Any, value: Any, mask: Any, *args: Any, **kwargs: Any) -> Any:
            if not _is_bf16(pointers.get_element_ty()):
                return original(self, op, pointers, value, mask, *args, **kwargs)
            operation = _ATOMIC.get(op.name)
            if operation is None:
                raise NotImplementedError(f"atomic {op.name} of bfloat16 is not interpreted")
            before = handle(np.zeros(pointers.data.shape, np.float32), tl.bfloat16)
            for lanes in _turns(pointers.data, np.broadcast_to(mask.data, pointers.data.shape)):
                lane_mask = handle(lanes, tl.int1)
                found = own_load(self, pointers, lane_mask, None, *policies, False)
                before.data = np.where(lanes, found.data, before.data)
                after = handle(nearest_bf16(operation(found.data, value.data)), tl.bfloat16)
                own_store(self, pointers, after, lane_mask, *policies)
            return before

        return atomic_rmw

    def cast(original: Method) -> Method:
        def cast_impl(self: Any, source: Any, dtype: Any) -> Any:
            if _is_bf16(dtype):
                return handle(nearest_bf16(source.data), tl.bfloat16)
            return original(self, source, dtype) if not _is_bf16(source.dtype) else float32_to(self, source, dtype)

        def float32_to(self: Any, source: Any, dtype: Any) -> Any:
            if dtype.scalar.name == "fp32":
                # A comparison has the type of its operands here, and elements of bool.
                return handle(source.data.astype(np.float32), tl.float32)
            return original(self, handle(source.data, tl.float32), dtype)

        return cast_impl

    def convert(original: Method) -> Method:
        def fp_to_fp(self: Any, source: Any, dtype: Any, rounding: Any) -> Any:
            if _is_bf16(source.dtype):
                if not dtype.scalar.is_fp8():
                    return self.cast_impl(source, dtype)
                source = handle(source.data, tl.float32)
            if not _is_bf16(dtype):
                return original(self, source, dtype, rounding)
            if source.dtype.scalar.is_fp8():
                source = original(self, source, tl.float32, None)
            round_ = toward_zero_bf16 if rounding == toward_zero else nearest_bf16
            return handle(round_(source.data), tl.bfloat16)

        return fp_to_fp

    def bitcast(original: Method) -> Method:
        def create_bitcast(self: Any, source: Any, dtype: Any) -> Any:
            source = bits(source) if _is_bf16(source.dtype) else source
            return values(source) if _is_bf16(dtype) else original(self, source, dtype)

        return create_bitcast

    def absolute(original: Method) -> Method:
        def create_fabs(self: Any, x: Any) -> Any:
            return handle(np.abs(x.data), tl.bfloat16) if _is_bf16(x.dtype) else original(self, x)

        return create_fabs

    def splat(original: Method) -> Method:
        def create_splat(self: Any, *args: Any) -> Any:
            result = original(self, *args)
            # A comparison has the type of its operands here, in which its truth would be spread.
            if any(getattr(arg, "data", result.data).dtype == np.bool_ for arg in args):
                result.data = result.data.astype(np.bool_)
            return result

        return create_splat

    def fma(original: Method) -> Method:
        def create_fma(self: Any, x: Any, y: Any, z: Any) -> Any:
            if not _is_bf16(z.dtype):
                return original(self, x, y, z)
            return handle(fused_bf16(x.data, y.data, z.data), tl.bfloat16)

        return create_fma

    def dot(original: Method) -> Method:
        def create_dot(self: Any, a: Any, b: Any, d: Any, precision: Any, *args: Any, **kwargs: Any) -> Any:
            def product(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], total: Any) -> Any:
                x, y = cut_tf32(x), cut_tf32(y)
                return original(self, handle(x, a.dtype), handle(y, b.dtype), total, precision, *args, **kwargs)

            if a.dtype.scalar.name != "fp32" or precision not in (precisions.TF32, precisions.TF32x3):
                return original(self, a, b, d, precision, *args, **kwargs)
            if precision == precisions.TF32:
                return product(a.data, b.data, d)
            # As Triton's F32DotTC pass does. A NaN of small parts counts nothing there: that of infinity is one.
            large_a, large_b = nearest_tf32(a.data), nearest_tf32(b.data)
            with np.errstate(invalid="ignore"):
                small_a, small_b = a.data - large_a, b.data - large_b
                small = product(small_a, large_b, handle(np.zeros_like(d.data), d.dtype))
                small = product(large_a, small_b, small)
            small.data = np.where(np.isnan(small.data), small.data.dtype.type(0), small.data)
            total = product(large_a, large_b, small)
            total.data = total.data + d.data
            return total

        return create_dot

    def numeric(choose: Callable[[Any, Any], Any]) -> Callable[[Method], Method]:
        """The larger or smaller one, and a number where the other is none: what PTX does unless asked to keep NaN."""

        def wrap(original: Method) -> Method:
            def chosen(self: Any, lhs: Any, rhs: Any) -> Any:
                return self.binary_op(lhs, rhs, choose)

            return chosen

        return wrap

    def clamp(original: Method) -> Method:
        def create_clampf(self: Any, x: Any, low: Any, high: Any, propagates: Any) -> Any:
            if propagates != interpreter._ir.PROPAGATE_NAN.NONE:
                return original(self, x, low, high, propagates)
            return self.binary_op(self.binary_op(x, low, np.fmax), high, np.fmin)

        return create_clampf

    def scaled_dot(original: Method) -> Method:
        def create_dot_scaled(self: Any, a: Any, a_scale: Any, a_format: Any, b: Any, *args: Any, **kwargs: Any) -> Any:
            if _is_bf16(a.dtype) or _is_bf16(b.dtype):
                raise NotImplementedError("tl.dot_scaled of a bfloat16 block is not interpreted")
            return original(self, a, a_scale, a_format, b, *args, **kwargs)

        return create_dot_scaled

    return {
        "binary_op": _rounding,
        LOAD: load,
        STORE: store,
        "create_atomic_cas": compare_and_swap,
        "create_atomic_rmw": read_modify_write,
        "cast_impl": cast,
        "create_fp_to_fp": convert,
        "create_bitcast": bitcast,
        "create_splat": splat,
        "create_fabs": absolute,
        "create_maxnumf": numeric(np.fmax),
        "create_minnumf": numeric(np.fmin),
        "create_clampf": clamp,
        "create_fma": fma,
        "create_dot": dot,
        "create_dot_scaled": scaled_dot,
    }


# By the name of Triton's operation: what is there and what is given become.
_ATOMIC: Mapping[str, Callable[[Any, Any], Any]] = {"FADD": np.add}


def _turns(addresses: np.ndarray[Any, Any], mask: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    """Masks of lanes that together are `mask`; none has an address twice, and lanes of one address keep their order."""
    left = mask.copy()
    while left.any():
        places = np.flatnonzero(left)
        first = places[np.unique(addresses.flat[places], return_index=True)[1]]
        turn = np.zeros_like(left)
        turn.flat[first] = True
        yield turn
        left &= ~turn
