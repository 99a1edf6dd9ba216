"""Counters of loops in interpreted kernels: tensors, as compiled kernels have them.

The interpreter gives Python's integers, which have no `.to` and never overflow. `range` and `tl.range` are replaced
where a kernel is rewritten for the interpreter, so that host code in the same file keeps its own. A loop that the
compiler unrolls, `tl.static_range`, keeps Python's integers.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

NAME = "_subquad_counted"
INT32 = range(-(2**31), 2**31)


def counted(first: Any, end: Any = None, step: Any = None, **options: Any) -> Iterator[Any]:
    """The counters of `range(…)`: of int64 where an end is or must be, else of int32. options: those of tl.range."""
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    ends = (0 if end is None else first, first if end is None else end, 1 if step is None else step)
    numbers = builtins.range(*(int(_value(each)) for each in ends))
    wide = any(getattr(each, "dtype", None) == tl.int64 for each in ends)
    wide = wide or numbers.start not in INT32 or numbers.stop not in INT32
    kind, held = (tl.int64, np.int64) if wide else (tl.int32, np.int32)
    for i in numbers:
        yield tl.tensor(TensorHandle(np.array([i], dtype=held), kind), kind)


def _value(end: Any) -> Any:
    """A number, or what holds one: a constexpr, a tensor of one element."""
    end = getattr(end, "value", end)
    handle = getattr(end, "handle", None)
    return end if handle is None else handle.data.item()


class _Counting(ast.NodeTransformer):
    """Has loops over `range(…)` and `tl.range(…)` count in tensors."""

    def visit_For(self, node: ast.For) -> ast.AST:
        self.generic_visit(node)
        call = node.iter
        if isinstance(call, ast.Call) and _is_range(call.func):
            call.func = ast.copy_location(ast.Name(id=NAME, ctx=ast.Load()), call.func)
        return node


def _is_range(function: ast.expr) -> bool:
    name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    return name == "range"


def counting(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps FunctionRewriter._compile_and_exec, which makes a function of a kernel's syntax tree."""

    def compile_and_exec(self: Any, tree: ast.AST) -> Any:
        self.fn.__globals__[NAME] = counted
        return original(self, ast.fix_missing_locations(_Counting().visit(tree)))

    return compile_and_exec
