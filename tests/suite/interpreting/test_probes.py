"""bfloat16 and TF32 in Triton's interpreter: operation by operation, and our kernels in bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from packaging.version import Version
from triton.runtime import interpreter

from suite import Problem, interpreting
from suite.checks.checker import check_case, refusal
from suite.discovery import discover
from suite.interpreting import formats, wrapping
from suite.interpreting.probes import PROBES, Probe

pytestmark = pytest.mark.interpret

# What no probe misses refuses instead of computing, or is there for its speed.
UNPROBED = {"create_dot_scaled", "_patch_lang", "binary_op_sanitize_overflow_impl"}
# What one Triton has right by itself: 3.6 looks at a mask's truth where it is used, 3.9 knows what NaN is to a maximum.
OLD = Version(triton.__version__) < Version("3.9")
UNPROBED |= {"create_splat"} if OLD else {"create_maxnumf", "create_minnumf", "create_clampf"}
WRAPPED = [(holder, name) for holder, name, _ in wrapping._replaced if name not in UNPROBED]

# Of each family an operator, and what it needs beside the defaults.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "softmax_attention": ("triton_flash", {}),
    "linear_attention": ("triton_chunk", {}),
    "ssd": ("triton_chunk", {}),
    "gated_linear_attention": ("triton_chunk", {}),
    "gated_delta_rule": ("triton_chunk", {}),
    "kimi_delta_attention": ("triton_chunk", {}),
    "mlstm": ("triton_chunk", {}),
    "selective_scan": ("triton_chunk", {}),
    "taylor_attention": ("triton_efficient", {"causal": False}),
}


@contextmanager
def put_back(holder: Any, name: str) -> Iterator[None]:
    """One method as it was before it was wrapped."""
    wrapper = vars(holder)[name]
    original = next(old for at, known, old in wrapping._replaced if (at, known) == (holder, name))
    if original is None:
        delattr(holder, name)
    else:
        setattr(holder, name, original)
    wrapping._forget_rewritten(interpreter)
    try:
        yield
    finally:
        setattr(holder, name, wrapper)
        wrapping._forget_rewritten(interpreter)


@pytest.mark.parametrize("probe", PROBES, ids=[probe.name for probe in PROBES])
def test_probes(probe: Probe) -> None:
    assert probe.wrong() is None


@pytest.mark.parametrize(("holder", "name"), WRAPPED, ids=[name for _, name in WRAPPED])
def test_probes_miss_each_method_that_is_not_wrapped(holder: Any, name: str) -> None:
    with put_back(holder, name):
        assert any(probe.wrong() for probe in PROBES)


def test_probes_name_the_operation_that_a_triton_computes_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    op = discover().operator("linear_attention")
    made = op.implementations["triton_chunk"]
    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_fabs", lambda self, x: x)
    interpreting.fault.cache_clear()
    try:
        problem = op.complete(Problem(T=16, K=16, dtype="bf16"))
        reason = str(refusal(op, made, problem, {"chunk": 16}, "interpret"))
        assert "computes bfloat16 wrongly in tl.abs: " in reason
        assert "use Triton 3.6 to 3.9, or fp32 or fp16" in reason
        assert "\n" not in reason
        assert refusal(op, made, problem.replace(dtype="float32"), {"chunk": 16}, "interpret") is None
        monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", lambda self, a, b, d, *_: d)
        interpreting.fault.cache_clear()
        reason = str(refusal(op, made, problem.replace(dtype="float32"), {"chunk": 16}, "interpret"))
        assert "computes tf32 wrongly in tl.dot with tf32: 1, not 2" in reason
    finally:
        interpreting.fault.cache_clear()


@pytest.mark.skipif(not hasattr(interpreter.InterpreterBuilder, "create_dot_scaled"), reason="this Triton has none")
def test_a_scaled_product_of_bf16_is_refused() -> None:
    half = interpreter.TensorHandle(np.ones((16, 16), np.float32), tl.bfloat16)
    builder: Any = interpreter.interpreter_builder
    with pytest.raises(NotImplementedError, match="bfloat16"):
        builder.create_dot_scaled(half, None, None, half, None, None, False, True, True, half)


def test_a_probe_that_cannot_run_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(interpreter.InterpreterBuilder, "create_fabs")
    probe = next(probe for probe in PROBES if probe.name == "tl.abs")
    assert "create_fabs" in str(probe.wrong())


def test_probes_see_the_interpreter_as_it_was_when_it_is_uninstalled() -> None:
    builder = interpreter.InterpreterBuilder
    wrapped = dict(vars(builder))
    interpreting.install()
    assert dict(vars(builder)) == wrapped
    interpreting.uninstall()
    try:
        changed = {name for name, method in vars(builder).items() if wrapped.get(name) is not method}
        assert {"binary_op", "create_dot", "create_masked_load", "cast_impl"} <= changed
        assert all("interpreting" not in getattr(method, "__module__", "") for method in vars(builder).values())
        assert next(probe for probe in PROBES if probe.name == "x + y").wrong()
    finally:
        interpreting.install()
    assert interpreting.fault("bfloat16") is None


def test_rounding_of_bf16_is_that_of_torch() -> None:
    f = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32).view(np.float32)
    f[np.isnan(f)] = 1.0
    # Every other one a tie, or next to it.
    f[::2] = ((f[::2].view(np.uint32) & np.uint32(0xFFFF0000)) + np.uint32(0x8000)).view(np.float32)
    f[::6] = np.nextafter(f[::6], np.float32(0))
    f[-3:] = [np.nan, np.inf, -np.inf]
    right = torch.from_numpy(f).bfloat16()
    rounded = torch.from_numpy(formats.nearest_bf16(f))
    torch.testing.assert_close(rounded, right.float(), rtol=0, atol=0, equal_nan=True)
    bits = torch.from_numpy(formats.bits_of_bf16(f[~np.isnan(f)]).view(np.int16))
    assert torch.equal(bits, right[~right.isnan()].view(torch.int16))
    again = torch.from_numpy(formats.bf16_of_bits(right.view(torch.int16).numpy()))
    torch.testing.assert_close(again, right.float(), rtol=0, atol=0, equal_nan=True)


def test_rounding_of_tf32() -> None:
    ulp = 2.0**-10
    x = np.array([1 + ulp / 2, 1 + ulp * 0.49, -1 - ulp / 2, np.inf, np.nan, 0.0], dtype=np.float32)
    near = np.array([1 + ulp, 1, -1 - ulp, np.inf, np.nan, 0.0], dtype=np.float32)
    cut = np.array([1, 1, -1, np.inf, np.nan, 0.0], dtype=np.float32)
    np.testing.assert_array_equal(formats.nearest_tf32(x), near)
    np.testing.assert_array_equal(formats.cut_tf32(x), cut)


def checked(name: str, **sizes: Any) -> None:
    """Check one of ours in bfloat16."""
    implementation, words = FAMILIES[name]
    op = discover().operator(name)
    if op.stateful:
        sizes = {"initial_state": True, **sizes}
    problem = op.complete(Problem(B=1, dtype="bf16", **sizes), words)
    found = check_case(op, implementation, problem, device="interpret")
    assert found.ok, found.reason


@pytest.mark.long
@pytest.mark.parametrize("name", FAMILIES)
def test_bf16_of_2000_tokens(name: str) -> None:
    # A scan goes through Triton's own function for each pair of elements, so it gets fewer of them.
    size = 16 if name == "selective_scan" else 32
    checked(name, T=2000, H=1, K=size, V=size, pass_="fwdbwd")
