"""Triton's interpreter, without two things that take half of its time and change nothing.

- For as long as a launch lasts it replaces triton.language's functions by interpreted ones. At each call of a device
  function it looks for more to replace, and there is nothing.
- It computes in seven operations whether an int32 sum or product overflows, and outside of debug mode drops the answer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any


def once_a_launch(patch: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Wraps the interpreter's `_patch_lang`: a module of Triton's language is patched once in a launch."""
    import triton.language as tl
    from triton.runtime import interpreter

    patched = set[ModuleType]()

    class Launch(interpreter._LangPatchScope):
        def restore(self) -> None:
            super().restore()
            patched.clear()

    @cache
    def languages(fn: Any) -> frozenset[ModuleType]:
        """The modules that the interpreter patches for a function."""
        return frozenset(x for x in fn.__globals__.values() if inspect.ismodule(x) and x in (tl, tl.core))

    def patch_new(fn: Any) -> Any:
        scope, wanted = Launch(), languages(fn)
        if not wanted or not wanted <= patched:
            scope._changes = patch(fn)._changes
            patched.update(wanted)
        return scope

    return patch_new


def in_debug_mode(assert_in_range: Callable[..., None]) -> Callable[..., None]:
    """Wraps TritonSemantic's look for overflow, whose answer only device_assert would get."""

    def look(self: Any, lhs: Any, rhs: Any, operation: Callable[..., Any]) -> None:
        if self.builder.options.debug:
            assert_in_range(self, lhs, rhs, operation)

    return look
