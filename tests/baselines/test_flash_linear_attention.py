"""The adapters to flash-linear-attention, called on a stand-in for the library that computes with the oracle."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from baselines.scalar_decay.linear_attention.flash_linear_attention import FLA
from kernels.scalar_decay.linear_attention.spec import linear_attention, recurrence
from suite import Problem, Requirement
from suite.checks.calling import Call
from suite.checks.inputs import draw_inputs, flat
from suite.numerics import difference

ENTRIES = {"fla_chunk": "chunk_linear_attn", "fla_fused_recurrent": "fused_recurrent_linear_attn"}
AXES = [
    (("feature_map", "identity"), ("normalised", False)),
    (("feature_map", "elu1"), ("normalised", True)),
]


def stand_in(q, k, v, scale=None, initial_state=None, output_final_state=False, normalize=False, cu_seqlens=None):
    """fla's contract: equal heads, mapped q and k, z of shape [N, 1, H, K]; it returns z always and S when asked."""
    assert q.shape == k.shape
    assert q.shape[2] == v.shape[2]
    if normalize and initial_state is not None:
        S, z = initial_state
        assert z.ndim == 4
        assert z.shape[1] == 1
        initial_state = (S, z.squeeze(1))
    # As the library does, it leaves o in float32 where it divided by a float32 sum.
    q, k, v = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (q, k, v))
    o, final = recurrence(
        q,
        k,
        v,
        normalised=normalize,
        scale=scale,
        initial_state=initial_state,
        output_final_state=True,
        cu_seqlens=cu_seqlens,
    )
    if not normalize:
        return o, final if output_final_state else None
    S, z = final
    return o, (S if output_final_state else None, z[:, None])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The entries called, in order, of a fla that is put into sys.modules."""
    called: list[str] = []
    ops = ModuleType("fla.ops.linear_attn")
    for entry in ENTRIES.values():
        setattr(ops, entry, lambda *args, entry=entry, **words: (called.append(entry), stand_in(*args, **words))[1])
    for name, module in (("fla", ModuleType("fla")), ("fla.ops", ModuleType("fla.ops")), ("fla.ops.linear_attn", ops)):
        monkeypatch.setitem(sys.modules, name, module)
    return called


def run(name: str, at: Problem) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """(what the adapter returned, what the oracle says), states included."""
    at = linear_attention.complete(at)
    made = linear_attention.implementations[name]
    inputs = draw_inputs(linear_attention, at, seed=0)
    wide = {n: tuple(y.double() for y in x) if isinstance(x, tuple) else x for n, x in inputs.items()}
    wide = {n: x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for n, x in wide.items()}
    wide.pop("cu_seqlens_cpu", None)
    if "state" in wide:
        wide["initial_state"] = wide.pop("state")
    o, final = recurrence(**wide, **linear_attention.kwargs_of(at), output_final_state="initial_state" in wide)
    state = "state" if at.pass_ == "decode" else "final_state"
    produced = Call(linear_attention, made, at, made.default_tunables, inputs).forward()
    if at.pass_ == "decode":
        produced |= flat({"state": inputs["state"]})
    return produced, flat({"o": o, state: final})


def assert_equal(produced: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert produced.keys() == expected.keys()
    for name, right in expected.items():
        assert difference(produced[name], right).error < 1e-5, name


@pytest.mark.parametrize("name", sorted(ENTRIES))
@pytest.mark.parametrize("axes", AXES, ids=["plain", "normalised"])
@pytest.mark.parametrize("stateful", [False, True], ids=["fresh", "state"])
@pytest.mark.parametrize(
    "shape",
    [{"B": 2, "H": 4, "HK": 2, "HV": 2}, {"H": 2, "HV": 4}, {"layout": "packed:ragged", "H": 2}],
    ids=["grouped", "value", "packed"],
)
def test_sequence_calls(name: str, axes, stateful: bool, shape, calls: list[str]) -> None:
    produced, expected = run(name, Problem(T=40, K=8, V=12, dtype="fp32", axes=axes, initial_state=stateful, **shape))
    assert_equal(produced, expected)
    assert calls == [ENTRIES[name]]


@pytest.mark.parametrize("axes", AXES, ids=["plain", "normalised"])
@pytest.mark.parametrize("heads", [{"H": 4, "HK": 2, "HV": 2}, {"H": 2, "HV": 4}], ids=["grouped", "value"])
def test_step_copies_the_new_state_into_the_old(axes, heads, calls: list[str]) -> None:
    produced, expected = run(
        "fla_step", Problem(B=2, T=20, K=8, V=12, dtype="fp32", pass_="decode", axes=axes, **heads)
    )
    assert_equal(produced, expected)
    assert calls == ["fused_recurrent_linear_attn"]


def test_output_keeps_the_dtype_of_v(calls: list[str]) -> None:
    q = torch.rand(1, 4, 1, 8).bfloat16()
    states = torch.randn(1, 1, 8, 8), torch.rand(1, 1, 8)
    for name in ENTRIES:
        o, _ = linear_attention.implementations[name].fn(q, q, q, normalised=True, initial_state=states)
        assert o.dtype == torch.bfloat16


@pytest.mark.parametrize("entry", sorted(ENTRIES.values()))
def test_the_installed_library_has_the_parameters_of_the_stand_in(entry: str) -> None:
    try:
        package = importlib.metadata.distribution(FLA.distribution)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("fla-core is not installed")
    file = {"chunk_linear_attn": "chunk.py", "fused_recurrent_linear_attn": "fused_recurrent.py"}[entry]
    source = Path(str(package.locate_file(f"fla/ops/linear_attn/{file}"))).read_text()
    (found,) = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef) and n.name == entry]
    names = [arg.arg for arg in found.args.args]
    assert names[:3] == ["q", "k", "v"]
    assert set(stand_in.__code__.co_varnames[: stand_in.__code__.co_argcount]) <= set(names)


def test_an_absent_library_gives_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    at = linear_attention.complete(Problem(T=8, dtype="bf16"))
    for name in (*ENTRIES, "fla_step"):
        made = linear_attention.implementations[name]
        at = at.replace(pass_="decode" if name == "fla_step" else "fwd")
        reason = made.unsupported(at, {}, linear_attention.axes)
        command = "pip install 'fla-core>=0.6,<0.7' einops (set peers of docs/peers.md)"
        assert reason == f"fla-core is not installed: {command}"


def test_another_version_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Requirement, "version", lambda self: "0.7.1")
    monkeypatch.setattr("suite.requirement._importable", lambda module: True)
    assert "fla-core 0.7.1 is not >=0.6,<0.7" in (FLA.missing() or "")


def test_each_adapter_is_a_cuda_peer() -> None:
    for name in (*ENTRIES, "fla_step"):
        made = linear_attention.implementations[name]
        assert (made.origin, made.devices, made.requires) == ("peer", {"cuda"}, FLA)
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
