"""What makes the interpreter quick here leaves nothing behind: its language is the compiler's after each launch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import triton
import triton.language as tl
from triton.runtime import interpreter

from suite.faults import classify

pytestmark = pytest.mark.interpret


@triton.jit
def doubled(x):
    return x + x


@triton.jit
def quadruple_kernel(x, y):
    tl.store(y + tl.arange(0, 4), doubled(doubled(tl.load(x + tl.arange(0, 4)))))


def test_the_language_is_that_of_the_compiler_after_each_launch() -> None:
    before = tl.load, tl.tensor.__add__, tl.range, tl.dtype.to_ir
    x = torch.ones(4, dtype=torch.int32)
    for factor in (4, 16):
        quadruple_kernel[(1,)](x, x)
        assert x.tolist() == [factor] * 4
        assert (tl.load, tl.tensor.__add__, tl.range, tl.dtype.to_ir) == before


def test_a_launch_that_fails_leaves_the_language_as_it_was() -> None:
    before = tl.load
    with pytest.raises(interpreter.InterpreterError):
        quadruple_kernel[(1,)](torch.ones(4), None)
    assert tl.load is before
    y = torch.zeros(4)
    quadruple_kernel[(1,)](torch.ones(4), y)
    assert y.tolist() == [4.0] * 4


def test_an_overflow_is_an_error_in_debug_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = interpreter.interpreter_builder
    monkeypatch.setattr(builder, "options", replace(builder.options, debug=True))
    x = torch.full((4,), 2**29, dtype=torch.int32)
    with pytest.raises(interpreter.InterpreterError, match="int32 overflow detected for operation add"):
        quadruple_kernel[(1,)](x, x)


@triton.jit
def wrong(x):
    return x + undefined  # noqa: F821  # pyright: ignore[reportUndefinedVariable]


@triton.jit
def wrong_kernel(x):
    tl.store(x, wrong(tl.load(x)))


def test_an_error_in_a_kernel_is_told_with_its_line() -> None:
    with pytest.raises(interpreter.InterpreterError) as caught:
        wrong_kernel[(1,)](torch.ones(1))
    status, reason = classify(caught.value)
    lines = Path(__file__).read_text().splitlines()
    at = next(number for number, text in enumerate(lines, 1) if "x + undefined" in text)
    assert status == "error"
    assert reason == f"NameError: name 'undefined' is not defined ({__file__}:{at})"
