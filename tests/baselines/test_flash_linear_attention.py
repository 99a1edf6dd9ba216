"""The adapters to flash-linear-attention: what is said where the library is absent, and what they do not serve."""

from __future__ import annotations

import pytest

from baselines.scalar_decay.linear_attention.flash_linear_attention import FLA
from kernels.scalar_decay.linear_attention.spec import linear_attention
from suite import Problem, Requirement


def test_an_absent_library_gives_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    at = linear_attention.complete(Problem(T=8, dtype="bf16"))
    for name in ("fla_chunk", "fla_fused_recurrent", "fla_step"):
        made = linear_attention.implementations[name]
        at = at.replace(pass_="decode" if name == "fla_step" else "fwd")
        reason = made.unsupported(at, {}, linear_attention.axes)
        command = "pip install 'fla-core>=0.6,<0.7' einops (set peers of docs/peers.md)"
        assert reason == f"fla-core is not installed: {command}"


def test_another_version_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Requirement, "version", lambda self: "0.7.1")
    monkeypatch.setattr("suite.requirement._importable", lambda module: True)
    assert "fla-core 0.7.1 is not >=0.6,<0.7" in (FLA.missing() or "")


def test_the_library_s_chunks_take_no_float32() -> None:
    assert "float32" not in linear_attention.implementations["fla_chunk"].dtypes


@pytest.mark.parametrize(
    ("pass_", "dims", "refused"),
    [
        ("fwd", {"K": 63, "V": 64}, False),
        ("bwd", {"K": 63, "V": 64}, True),
        ("fwdbwd", {"K": 64, "V": 63}, True),
        ("fwdbwd", {"K": 60, "V": 100}, False),
    ],
)
def test_odd_head_dims_have_no_backward_in_chunks(pass_: str, dims, refused: bool) -> None:
    supports = linear_attention.implementations["fla_chunk"].supports
    assert supports is not None
    assert (supports(Problem(T=8, pass_=pass_, **dims), {}) is not None) == refused
