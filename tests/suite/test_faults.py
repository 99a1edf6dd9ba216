"""What an exception of an implementation means: a peer that says it has no kernel is unsupported, else a fault."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import baselines.attention.softmax_attention.flash_attention  # noqa: F401  (registers)
from kernels.attention.softmax_attention.spec import softmax_attention
from suite.faults import classify

PEER = softmax_attention.implementations["flash_attn_4"]
MESSAGES = (
    "Unsupported compute capability. Supported: 9.x, 10.x, 11.x, 12.x",
    "(head_dim, head_dim_v)=(16, 16) is not supported on SM90.",
    "deterministic backward not supported on SM 12.0",
    "local not yet supported with qv",
    "SM100 backward with head_dim=256 does not support local attention",
    "SM120 forward only supports num_splits=1",
    "only support Blackwell arch with qv",
    "FA4 CuTe FP8 backward is not supported yet (forward-only).",
    "varlen backward is not implemented",
)


def raised(error: Exception, module: str) -> Exception:
    """The exception after code of a module has raised it."""
    words: dict[str, Any] = {"__name__": module, "error": error}
    try:
        exec("def entry():\n    raise error\nentry()", words)
    except Exception as found:
        return found
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("kind", [AssertionError, NotImplementedError])
def test_a_peer_s_library_that_has_no_kernel_is_unsupported(kind: type[Exception], message: str) -> None:
    found = classify(raised(kind(message), "flash_attn.cute.interface"), PEER)
    assert found == ("unsupported", f"flash-attn-4: {message}")


@pytest.mark.parametrize("message", ["tile_m", "", "shape mismatch", "inputs must be on CUDA device"])
def test_another_assertion_of_a_peer_s_library_is_an_error(message: str) -> None:
    assert classify(raised(AssertionError(message), "flash_attn.cute"), PEER)[0] == "error"


@pytest.mark.parametrize(
    ("kind", "module", "implementation"),
    [
        (RuntimeError, "flash_attn.cute", PEER),
        (TypeError, "flash_attn.cute", PEER),
        (AssertionError, "flash_attn_other", PEER),
        (AssertionError, "kernels.attention.autograd", PEER),
        (NotImplementedError, "torch.nn", PEER),
        (AssertionError, "flash_attn.cute", replace(PEER, origin="ours")),
        (AssertionError, "flash_attn.cute", replace(PEER, requires=None)),
        (AssertionError, "flash_attn.cute", None),
    ],
)
def test_the_same_words_of_anything_else_are_an_error(kind: type[Exception], module: str, implementation) -> None:
    status, reason = classify(raised(kind(MESSAGES[0]), module), implementation)
    assert status == "error"
    assert reason.startswith(f"{kind.__name__}: {MESSAGES[0]} ({__file__}:")
