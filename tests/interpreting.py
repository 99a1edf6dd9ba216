"""Triton's interpreter, without two things that take half of its time and change nothing.

- For as long as a launch lasts it replaces triton.language's functions by interpreted ones. At each call of a device
  function it looks for more to replace, and there is nothing.
- It computes in seven operations whether an int32 sum or product overflows, and outside of debug mode drops the answer.

Another interpreter than the one that is known here stays as it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any


def make_quick() -> None:
    """Patch the interpreter of this process."""
    from triton.runtime import interpreter

    if hasattr(interpreter, "_LangPatchScope"):
        _patch_language_once_a_launch(interpreter)
    if hasattr(interpreter.TritonSemantic, "binary_op_sanitize_overflow_impl"):
        _look_for_overflow_in_debug_mode_only(interpreter.TritonSemantic)


def _patch_language_once_a_launch(interpreter: Any) -> None:
    import triton.language as tl

    patch, patched = interpreter._patch_lang, set[ModuleType]()

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

    interpreter._patch_lang = patch_new


def _look_for_overflow_in_debug_mode_only(semantic: Any) -> None:
    assert_in_range = semantic.binary_op_sanitize_overflow_impl

    def look(self: Any, lhs: Any, rhs: Any, operation: Callable[..., Any]) -> None:
        # As device_assert does, which would get the answer.
        if self.builder.options.debug:
            assert_in_range(self, lhs, rhs, operation)

    semantic.binary_op_sanitize_overflow_impl = look
