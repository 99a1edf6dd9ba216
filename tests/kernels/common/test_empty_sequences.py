"""Sequences without tokens: states pass through them bit for bit, and all else is as if they were not there."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from suite.checks.guarding import Guard
from suite.checks.inputs import each, flat
from suite.numerics import difference, limit_of
from suite.targets import aim
from tests.kernels.common.packed_calls import (
    MORE,
    STATEFUL,
    STATELESS,
    Outputs,
    call,
    differentiate,
    entry,
    leaves,
    small,
)
from tests.kernels.regimes import aimed, regimes

# Tokens of two sequences, each of a chunk and a bit, or of a segment and a bit where it takes more.
TOKENS, LONG = 36, 76
LONGER = ("gated_delta_rule", "gated_scan", "selective_scan", "s4d")
# Those whose kernels take long in the interpreter, however small a head is.
SLOW = ("gated_scan", "selective_scan", "s4d", "taylor_attention")
# Empty sequences come first, in the middle, and twice at the end.
FULL, EMPTY = [1, 3], [0, 2, 4, 5]
SOURCE, FACTORS = [0, 0, 1, 1, 0, 1], [3.0, 1.0, 5.0, 1.0, 7.0, 9.0]
# On chip all of them; in segments what each family's own kernels pass between them.
SEGMENTED = (
    "gated_delta_rule/triton_chunk",
    "gated_scan/triton_chunk",
    "kimi_delta_attention/triton_chunk",
    "linear_attention/triton_chunk:normalised",
    "mlstm/triton_chunk",
    "rwkv6/triton_chunk",
    "rwkv7/triton_chunk",
    "selective_scan/triton_chunk",
    "ssd/triton_chunk",
)
CASES = [
    *((name, "on-chip") for name in (*STATEFUL, *MORE, *STATELESS)),
    *((name, "segments") for name in SEGMENTED),
    pytest.param("s4d/triton_chunk", "segments", marks=pytest.mark.long),
]


def of_six(x: torch.Tensor) -> torch.Tensor:
    """States of six sequences from those of two: what an empty one has is nobody else's."""
    factors = torch.tensor(FACTORS, dtype=x.dtype).view(-1, *[1] * (x.ndim - 1))
    return (x.detach()[SOURCE] * factors).requires_grad_(x.requires_grad)


def by_oracle(name: str, inputs: dict[str, Any], bounds: list[int]) -> tuple[Outputs, dict[str, Any]]:
    """o and the final state of the sequences between these bounds, and the inputs in fp64."""
    operator, _ = entry(name)
    tensors = {n: x for n, x in inputs.items() if isinstance(x, (torch.Tensor, tuple)) and n != "cu_seqlens_cpu"}
    wide = each(lambda x: x.detach().double().requires_grad_(x.requires_grad), tensors)
    words = {n: x for n, x in inputs.items() if not isinstance(x, (torch.Tensor, tuple))}
    words |= {"output_final_state": True} if operator.stateful else {}
    o, final = operator.oracle(**{**wide, "cu_seqlens": torch.tensor(bounds)}, **words)
    return flat({"o": o, "final_state": final}), wide


def gradients_of(outputs: Outputs) -> Outputs:
    """A gradient of each output that has one."""
    generator = torch.Generator().manual_seed(1)
    return {n: torch.randn(x.shape, generator=generator) for n, x in outputs.items() if x.requires_grad}


def of_full(name: str, x: torch.Tensor) -> torch.Tensor:
    """What belongs to the sequences that have tokens."""
    return x[FULL] if "state" in name else x


@pytest.mark.interpret
@pytest.mark.parametrize(("name", "where"), CASES)
def test_empty_sequences_pass_their_states_on_and_leave_the_others_alone(name: str, where: str) -> None:
    operator, made = entry(name)
    T = LONG if where == "segments" and operator.name in LONGER else TOKENS
    sizes = {"K": 4, "V": 4} if operator.name in SLOW else {}
    problem, drawn = small(name, T=T, H=1, initial_state=operator.stateful, pass_="fwdbwd", **sizes)
    expected, wide = by_oracle(name, drawn, [0, T // 2, T])

    bounds = torch.tensor([0, 0, T // 2, T // 2, T, T, T], dtype=torch.int32)
    states = each(of_six, {n: x for n, x in drawn.items() if n == "initial_state"})
    inputs = {**drawn, **states, "cu_seqlens": bounds, "cu_seqlens_cpu": bounds}
    chunk = {"chunk": 16} if "chunk" in made.tunables else {}
    with aimed(where), Guard() as guard:
        assert not operator.stateful or regimes(made, problem, chunk) == {where}
        found = call(name, inputs, **chunk)
        given = gradients_of(found)
        gradients = differentiate(found, inputs, given)
    assert not guard.broken()

    for n, x in expected.items():
        apart, limit = difference(of_full(n, found[n]), x), limit_of("float32", n, operator.limits)
        assert not apart.exceeds(limit), apart.describe(n, limit)
    for n, x in differentiate(expected, wide, {n: of_full(n, x) for n, x in given.items()}).items():
        mine = gradients[n]
        if x is None:
            assert mine is None, n
            continue
        assert mine is not None, n
        apart, limit = difference(of_full(n, mine), x), limit_of("float32", f"d{n}", operator.limits)
        assert not apart.exceeds(limit), apart.describe(f"d{n}", limit)
    for n, x in flat(states).items():
        final = n.replace("initial", "final")
        assert torch.equal(found[final][EMPTY], x[EMPTY]), n
        passed = gradients[n]
        if passed is not None:
            assert torch.equal(passed[EMPTY], given[final][EMPTY]), f"d{n}"


def without(inputs: dict[str, Any], name: str, dims: str) -> dict[str, Any]:
    """The inputs with nothing left of their dimensions B or T, and states with nothing of N where B goes."""
    operator, _ = entry(name)
    gone = {"B", "N"} if dims == "B" else {"T"}

    def cut(x: Any, own: str) -> Any:
        index = tuple(slice(0) if d in gone else slice(None) for d in own.split()[: x.ndim])
        return x.detach()[index].requires_grad_(x.requires_grad)

    found: dict[str, Any] = {}
    for n, x in inputs.items():
        own = operator.dims_of(n)
        if isinstance(x, tuple):
            all_own = [own] * len(x) if isinstance(own, str) else own
            found[n] = tuple(cut(part, d) for part, d in zip(x, all_own, strict=True))
        else:
            found[n] = cut(x, own if isinstance(own, str) else own[0]) if isinstance(x, torch.Tensor) else x
    return found


CALLS = {
    "packed": ("T", {"layout": "packed:halves"}, torch.tensor([0, 0, 0])),
    "T = 0": ("T", {"layout": "dense", "B": 2}, None),
    "B = 0": ("B", {"layout": "dense", "B": 2}, None),
}


# A kernel that is launched fails here: Triton has no driver, or the machine's GPU is no place for these tensors.
@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("name", [*STATEFUL, *MORE, *STATELESS])
def test_a_call_without_tokens_launches_nothing(name: str, kind: str) -> None:
    operator, _ = entry(name)
    dims, sizes, bounds = CALLS[kind]
    _, drawn = small(name, initial_state=operator.stateful, pass_="fwdbwd", **sizes)
    packed = {} if bounds is None else {"cu_seqlens": bounds, "cu_seqlens_cpu": bounds}
    inputs = {**without({n: x for n, x in drawn.items() if "cu_seqlens" not in n}, name, dims), **packed}
    with aim("sm_90"):
        found = call(name, inputs)
        given = gradients_of(found)
        gradients = differentiate(found, inputs, given)
        alone = differentiate(call(name, inputs), inputs, {"o": given["o"]})
    assert found["o"].numel() == 0
    for n, x in leaves(inputs).items():
        final = n.replace("initial", "final")
        if n != final and final not in given:
            continue  # mLSTM's stabiliser has no gradient.
        passed, nothing = gradients[n], alone[n]
        assert passed is not None, n
        assert nothing is not None, n
        assert passed.shape == nothing.shape == x.shape
        assert not nothing.any(), n
        assert torch.equal(passed, given[final] if n != final else nothing), n
    for n, x in flat({n: x for n, x in inputs.items() if n == "initial_state"}).items():
        final = found[n.replace("initial", "final")]
        assert torch.equal(final, x)
        assert not x.numel() or final.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("name", [*STATEFUL, *MORE])
def test_without_an_initial_state_the_final_one_is_none_s(name: str) -> None:
    bounds = torch.tensor([0, 0, 0])
    _, drawn = small(name)
    inputs = without({n: x for n, x in drawn.items() if "cu_seqlens" not in n}, name, "T")
    with aim("sm_90"):
        found = call(name, inputs, cu_seqlens=bounds, cu_seqlens_cpu=bounds)
    for n, x in found.items():
        if n == "o":
            continue
        assert len(x) == 2
        assert x.dtype == torch.float32
        # mLSTM's stabiliser: the logarithm of nothing.
        assert bool((x == (-torch.inf if n == "final_state[2]" else 0.0)).all()), n
