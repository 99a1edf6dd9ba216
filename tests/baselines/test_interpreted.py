"""Adapters on the libraries' own Triton code, in Triton's interpreter. A library that is not installed is skipped."""

from __future__ import annotations

import builtins
import importlib
import importlib.metadata
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import triton.language as tl
from triton.runtime.autotuner import Autotuner
from triton.runtime.interpreter import TensorHandle

import baselines.mlstm.nxai
import baselines.scalar_decay.lightning_attention.flash_linear_attention
import baselines.scalar_decay.lightning_attention.lightning_attn
import baselines.scalar_decay.ssd.mamba_ssm
import baselines.scan.selective_scan.mamba
from kernels.mlstm.spec import mlstm
from kernels.scalar_decay.lightning_attention.spec import lightning_attention
from kernels.scalar_decay.ssd.spec import ssd
from kernels.scan.selective_scan.spec import selective_scan
from suite import Operator, Problem
from suite.checks.checker import Check, Checker
from suite.checks.inputs import draw_inputs
from suite.targets import aim

# NaN and overflow in the interpreter are what some of these tests are about.
pytestmark = [pytest.mark.interpret, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

FLA_CHUNKS = ("fla.ops.common.chunk_h", "fla.ops.common.chunk_o")


@pytest.fixture(autouse=True)
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Autotuners take their first configuration, CUDA's device is no matter, and the target is an sm_90."""
    monkeypatch.setattr(Autotuner, "_bench", lambda *args, **words: 0.0)
    monkeypatch.setattr(torch.cuda, "device", lambda index: nullcontext())
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(multi_processor_count=132))
    with aim("sm_90"):
        yield


def check(operator: Operator, name: str, own: dict[str, Any], tunables: dict[str, Any], **sizes: Any) -> Check:
    """An adapter against the oracle, whatever device it is registered for."""
    at = operator.complete(Problem(**sizes), own)
    return Checker(operator, at, device="cpu", seed=0).check(operator.implementations[name], tunables)


@pytest.fixture
def fla(monkeypatch: pytest.MonkeyPatch) -> None:
    """FLA whose kernels' loops count in tensors, as compiled ones do: they call `.to` on the counter."""
    pytest.importorskip("fla.ops.simple_gla")

    def counted(*ends: Any) -> Iterator[Any]:
        for i in builtins.range(*map(int, ends)):
            yield tl.core.tensor(TensorHandle(np.array([i], dtype=np.int32), tl.int32), tl.int32)

    for name in FLA_CHUNKS:
        monkeypatch.setattr(importlib.import_module(name), "range", counted, raising=False)


# Of 2 heads the second decays by exp(-4): from 88.7 / 4 = 22.2 lacking tokens on, the factor is infinite.
SIZES = {"H": 2, "K": 16, "V": 16, "dtype": "fp16"}


@pytest.mark.usefixtures("fla")
def test_fla_s_final_state_is_right_where_the_adapter_serves_it() -> None:
    at = lightning_attention.complete(Problem(T=42, initial_state=True, **SIZES))
    made = lightning_attention.implementations["fla_chunk"]
    assert made.unsupported(at, {}, lightning_attention.axes) is None
    found = check(lightning_attention, "fla_chunk", {}, {}, T=42, initial_state=True, **SIZES)
    assert found.ok, found.reason
    assert {"o", "final_state"} <= set(found.errors)


@pytest.mark.usefixtures("fla")
def test_fla_s_final_state_is_nan_and_its_output_right_where_the_adapter_refuses() -> None:
    made = lightning_attention.implementations["fla_chunk"]
    at = lightning_attention.complete(Problem(T=41, initial_state=True, **SIZES))
    assert "lacks 23 of 64 tokens" in str(made.unsupported(at, {}, lightning_attention.axes))
    o, final = made.fn(**draw_inputs(lightning_attention, at, 0), output_final_state=True)
    assert o.isfinite().all()
    assert final is not None
    assert final[:, 0].isfinite().all()
    assert final[:, 1].isnan().all()
    assert made.unsupported(at.replace(initial_state=False), {}, lightning_attention.axes) is None
    found = check(lightning_attention, "fla_chunk", {}, {}, T=41, **SIZES)
    assert found.ok, found.reason


@pytest.fixture
def mamba(monkeypatch: pytest.MonkeyPatch) -> None:
    """mamba_ssm's modules without its packages' own code, which imports the CUDA extension."""
    try:
        root = Path(str(importlib.metadata.distribution("mamba-ssm").locate_file("mamba_ssm")))
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("mamba-ssm is not installed")
    for name in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.triton", "mamba_ssm.utils"):
        package = ModuleType(name)
        package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        monkeypatch.setitem(sys.modules, name, package)


@pytest.mark.usefixtures("mamba")
@pytest.mark.parametrize("own", [{}, {"skip": True}, {"gated": True}, {"skip": True, "gated": True}], ids=str)
def test_mamba_ssm_s_step_of_ssd(own: dict[str, Any]) -> None:
    sizes = {"B": 2, "T": 20, "H": 1, "HV": 3, "K": 16, "V": 32}
    found = check(ssd, "mamba_step", own, {}, dtype="fp32", pass_="decode", **sizes)
    assert found.ok, found.reason
    assert max(found.errors.values()) < 1e-6


@pytest.mark.usefixtures("mamba")
@pytest.mark.parametrize(
    ("own", "stateful"), [({}, False), ({"skip": True, "gated": True}, True)], ids=["core", "skip-gated-state"]
)
def test_mamba_ssm_s_chunked_ssd_and_its_gradients(own: dict[str, Any], stateful: bool) -> None:
    sizes = {"T": 100, "H": 1, "HV": 2, "K": 16, "V": 32, "initial_state": stateful}
    found = check(ssd, "mamba_chunk_scan", own, {"chunk": 64}, dtype="fp16", pass_="fwdbwd", **sizes)
    assert found.ok, found.reason
    assert {"o", "dq", "dk", "dv", "ddt", "dA"} <= set(found.errors)


@pytest.mark.usefixtures("mamba")
def test_mamba_ssm_s_step_of_the_selective_scan() -> None:
    sizes = {"B": 2, "T": 20, "H": 1, "HV": 2, "K": 16, "V": 32}
    found = check(selective_scan, "mamba_ssm_step", {}, {}, dtype="fp32", pass_="decode", **sizes)
    assert found.ok, found.reason


@pytest.mark.parametrize(
    ("name", "tunables", "sizes"),
    [
        ("tfla_chunk", {"chunk": 64}, {"T": 128, "dtype": "fp16"}),
        ("tfla_step", {}, {"T": 8, "dtype": "fp32", "pass_": "decode"}),
    ],
)
def test_mlstm_kernels(name: str, tunables: dict[str, Any], sizes: dict[str, Any]) -> None:
    if reason := baselines.mlstm.nxai.PACKAGE.missing():
        pytest.skip(reason)
    found = check(mlstm, name, {}, tunables, K=64, V=64, **sizes)
    assert found.ok, found.reason


def test_lightning_attn() -> None:
    pytest.importorskip("lightning_attn.ops")
    found = check(lightning_attention, "lightning_attn", {}, {}, T=70, H=2, K=32, V=32, dtype="fp16")
    assert found.ok, found.reason
