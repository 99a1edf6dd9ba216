"""Linear attention in PyTorch, against the oracle on the CPU."""

from __future__ import annotations

import pytest
import torch

import baselines.scalar_decay.linear_attention.chunk as chunk_module
import baselines.scalar_decay.linear_attention.step  # noqa: F401  (registers)
from baselines.scalar_decay.linear_attention.chunk import torch_chunk
from baselines.scalar_decay.linear_attention.naive import naive
from kernels.scalar_decay.linear_attention.spec import linear_attention, recurrence
from suite import Problem
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs
from suite.numerics import difference

SEQUENCES = ("naive", "torch_chunk")
AXES = [
    (("feature_map", "identity"), ("normalised", False)),
    (("feature_map", "relu"), ("normalised", False)),
    (("feature_map", "elu1"), ("normalised", True)),
    (("feature_map", "identity"), ("normalised", True)),
]
IDS = ["identity", "relu", "elu1-normalised", "identity-normalised"]
GRADIENTS = {"o", "dq", "dk", "dv"}


def problem(**changes) -> Problem:
    return Problem(**{"T": 63, "H": 2, "K": 16, "V": 24, "dtype": "fp32"} | changes)


def assert_ok(implementation: str, at: Problem, names: set[str], seeds: int = 1, **tunables) -> None:
    for seed in range(seeds):
        check = check_case(linear_attention, implementation, at, tunables, seed=seed)
        assert check.status == "ok", check.reason
        assert set(check.errors) == names


def with_state(names: set[str], normalised: bool) -> set[str]:
    ends = ("[0]", "[1]") if normalised else ("",)
    return names | {f"{name}{end}" for name in ("final_state", "dinitial_state") for end in ends}


@pytest.mark.parametrize("implementation", SEQUENCES)
@pytest.mark.parametrize("T", [1, 63, 130])
@pytest.mark.parametrize("axes", AXES, ids=IDS)
def test_output_and_gradients_match_the_oracle(implementation: str, T: int, axes) -> None:
    # A normalised token that sees itself alone is v, whatever q and k: their gradients are eps, below float32's reach.
    alone = T == 1 and axes[1][1]
    at = problem(T=T, axes=axes, pass_="fwd" if alone else "fwdbwd")
    assert_ok(implementation, at, {"o"} if alone else GRADIENTS)


@pytest.mark.parametrize("implementation", SEQUENCES)
@pytest.mark.parametrize("heads", [{"H": 6, "HK": 2, "HV": 2}, {"H": 2, "HV": 4}], ids=["grouped", "value"])
@pytest.mark.parametrize("axes", [AXES[0], AXES[2]], ids=[IDS[0], IDS[2]])
def test_states_and_unequal_heads(implementation: str, heads, axes) -> None:
    at = problem(T=70, B=2, axes=axes, initial_state=True, pass_="fwdbwd", **heads)
    assert_ok(implementation, at, with_state(GRADIENTS, axes[1][1]), seeds=4)


@pytest.mark.parametrize("implementation", SEQUENCES)
@pytest.mark.parametrize("axes", [AXES[0], AXES[2]], ids=[IDS[0], IDS[2]])
def test_packed_sequences_are_kept_apart(implementation: str, axes) -> None:
    at = problem(T=130, H=1, layout="packed:ragged", axes=axes, initial_state=True, pass_="fwdbwd")
    assert_ok(implementation, at, with_state(GRADIENTS, axes[1][1]), seeds=at.N)


@pytest.mark.parametrize("chunk", linear_attention.implementations["torch_chunk"].tunables["chunk"])
def test_every_chunk_gives_the_same(chunk: int) -> None:
    axes = AXES[2]
    at = problem(T=300, axes=axes, initial_state=True, pass_="fwdbwd")
    assert_ok("torch_chunk", at, with_state(GRADIENTS, True), chunk=chunk)


@pytest.mark.parametrize(("T", "chunk", "used"), [(100, 32, 32), (100, 64, 64), (5, 64, 5)])
def test_the_chunk_asked_for_is_used(T: int, chunk: int, used: int, monkeypatch: pytest.MonkeyPatch) -> None:
    split, seen = chunk_module._split, set()
    monkeypatch.setattr(chunk_module, "_split", lambda x, C: (seen.add(C), split(x, C))[1])
    q = torch.randn(1, T, 1, 4)
    torch_chunk(q, q, q, chunk=chunk)
    assert seen == {used}


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("implementation", SEQUENCES)
@pytest.mark.parametrize("axes", AXES, ids=IDS)
@pytest.mark.parametrize("pass_", ["fwd", "fwdbwd"])
def test_half_precision_stays_within_its_limit(implementation: str, dtype: str, axes, pass_: str) -> None:
    names = {"o"} if pass_ == "fwd" else GRADIENTS
    assert_ok(implementation, problem(T=130, K=64, V=64, dtype=dtype, axes=axes, pass_=pass_), names)


@pytest.mark.parametrize("fn", [naive, torch_chunk])
@pytest.mark.parametrize("axes", [AXES[0], AXES[2]], ids=[IDS[0], IDS[2]])
def test_final_state_without_an_initial_one(fn, axes) -> None:
    at = linear_attention.complete(problem(axes=axes))
    inputs = draw_inputs(linear_attention, at, seed=0)
    words = {**dict(axes), "output_final_state": True}
    _, final = fn(**inputs, **words)
    _, expected = recurrence(*(inputs[name].double() for name in "qkv"), **words)
    for mine, right in zip(*(x if isinstance(x, tuple) else (x,) for x in (final, expected)), strict=True):
        assert mine.dtype == torch.float32
        assert difference(mine, right).error < 1e-5
    assert fn(**inputs, **dict(axes))[1] is None


@pytest.mark.parametrize("fn", [naive, torch_chunk])
def test_final_state_has_the_dtype_of_the_initial_one(fn) -> None:
    q = torch.randn(1, 8, 1, 4)
    states = torch.randn(1, 1, 4, 4).bfloat16(), torch.rand(1, 1, 4).bfloat16()
    _, final = fn(q, q, q, normalised=True, feature_map="elu1", initial_state=states, output_final_state=True)
    assert [x.dtype for x in final] == [torch.bfloat16, torch.bfloat16]


@pytest.mark.parametrize("fn", [naive, torch_chunk])
def test_scale_is_the_callers(fn) -> None:
    q, k, v = (torch.randn(1, 9, 1, 16) for _ in range(3))
    for normalised in (False, True):
        words = {"feature_map": "elu1", "normalised": normalised, "scale": 0.01}
        expected, _ = recurrence(q.double(), k.double(), v.double(), **words)
        assert difference(fn(q, k, v, **words)[0], expected, token_dim=1).error < 1e-5


@pytest.mark.parametrize("fn", [naive, torch_chunk])
@pytest.mark.parametrize("normalised", [False, True])
def test_gradients_are_the_forms_own_derivatives(fn, normalised: bool) -> None:
    def drawn(*shape: int) -> torch.Tensor:
        return (torch.rand(*shape, dtype=torch.float64) + 0.5).requires_grad_()

    inputs = drawn(1, 4, 2, 2), drawn(1, 4, 1, 2), drawn(1, 4, 1, 2)
    states = (drawn(2, 2, 2, 2), drawn(2, 2, 2)) if normalised else (drawn(2, 2, 2, 2),)

    def call(q, k, v, *state):
        initial = state if normalised else state[0]
        o, final = fn(
            q,
            k,
            v,
            normalised=normalised,
            initial_state=initial,
            output_final_state=True,
            cu_seqlens=torch.tensor([0, 1, 4]),
            **({"chunk": 2} if fn is torch_chunk else {}),
        )
        return (o, *final) if normalised else (o, final)

    assert torch.autograd.gradcheck(call, (*inputs, *states))


@pytest.mark.parametrize("axes", AXES, ids=IDS)
@pytest.mark.parametrize("heads", [{"H": 4, "HK": 2, "HV": 2}, {"H": 2, "HV": 4}], ids=["grouped", "value"])
def test_step_updates_its_state_in_place(axes, heads) -> None:
    names = {"o"} | ({"state[0]", "state[1]"} if axes[1][1] else {"state"})
    assert_ok("torch_step", problem(B=2, T=50, axes=axes, pass_="decode", **heads), names, seeds=4)


def test_step_keeps_a_narrow_state_narrow() -> None:
    assert_ok("torch_step", problem(dtype="bf16", state_dtype="bf16", pass_="decode"), {"o", "state"})


def test_executed_flops_of_naive_count_the_full_square() -> None:
    made = linear_attention.implementations["naive"]
    at = linear_attention.complete(problem(T=10, B=2, H=3, K=4, V=8))
    flops = {
        each: linear_attention.cost_of(at.replace(pass_=each), made, {}).flops_exec for each in ("fwd", "bwd", "fwdbwd")
    }
    assert flops["fwd"] == 2 * (2 * 3 * 10 * 10) * (4 + 8)
    assert flops["bwd"] == 2 * flops["fwd"]
    assert flops["fwdbwd"] == 3 * flops["fwd"]


def test_executed_flops_of_chunks_count_padded_tiles_of_each_sequence() -> None:
    made = linear_attention.implementations["torch_chunk"]
    at = linear_attention.complete(problem(T=100, H=1, K=4, V=8, layout="packed:halves"))
    per_token = 4 * 4 * 8 + 2 * 32 * (4 + 8)
    assert linear_attention.cost_of(at, made, {"chunk": 32}).flops_exec == 2 * 64 * per_token
