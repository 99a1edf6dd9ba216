"""The profiled process: what lies inside the profiled range, and what does not. GPU and proton are played by fakes."""

from __future__ import annotations

import contextlib
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import triton

from suite.profiling import target
from tests.suite.profiling.recordings import text


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a GPU was told, in order."""
    told: list[str] = []
    cuda = types.SimpleNamespace(
        current_device=lambda: 0,
        synchronize=lambda: told.append("wait"),
        get_device_properties=lambda index: types.SimpleNamespace(L2_cache_size=1000),
        profiler=types.SimpleNamespace(start=lambda: told.append("start"), stop=lambda: told.append("stop")),
    )
    monkeypatch.setattr(torch, "cuda", cuda)
    monkeypatch.setattr(torch, "zeros", lambda size, **_: told.append(f"overwrite {size}"))
    return told


def test_ncu_sees_the_call_alone_and_it_starts_cold(done: list[str], tmp_path: Path) -> None:
    target._ncu(lambda: done.append("call"), {}, tmp_path)
    assert done == ["overwrite 2000", "wait", "start", "call", "wait", "stop"]


def test_proton_sees_each_call_in_a_scope_with_its_cost(
    done: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    @contextlib.contextmanager
    def scope(name: str, metrics: dict) -> Iterator[None]:
        done.append(f"{name} {metrics}")
        yield

    proton = types.ModuleType("triton.profiler")
    proton.__dict__.update(
        start=lambda name, hook: done.append(f"begin {Path(name).name} {hook}"),
        scope=scope,
        finalize=lambda: (tmp_path / target.TREE).write_text(text("proton.hatchet")),
    )
    monkeypatch.setitem(sys.modules, "triton.profiler", proton)
    monkeypatch.setattr(triton, "profiler", proton, raising=False)
    target._proton(lambda: done.append("call"), {"calls": 2, "cost": {"flops": 3.0}, "device": "cuda"}, tmp_path)
    assert done == ["begin proton triton", "call {'flops': 3.0}", "call", "call {'flops': 3.0}", "call", "wait"]
    assert (tmp_path / target.TREE).is_file()


def test_what_goes_wrong_is_in_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # This process is not the target's own: it keeps its threads.
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    request = {"load": [], "operator": "linear_atention", "implementation": "naive"}
    (tmp_path / target.REQUEST).write_text(json.dumps(request))
    assert target.main([str(tmp_path)]) == 1
    result = json.loads((tmp_path / target.RESULT).read_text())
    assert result["status"] == "error"
    assert "did you mean 'linear_attention'?" in result["reason"]
