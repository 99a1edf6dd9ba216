"""Small calls of every Triton implementation compile for a GPU: Triton compiles branches that no interpreted call takes.

Above all those where a tensor is absent: without a state, without lengths, with every pair whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from suite import Problem
from suite.checks.calling import Call
from suite.discovery import discover
from suite.static import capture
from suite.static.profiling import meta_inputs

STREAM, SPLIT = "attention_decode/triton_stream", "attention_decode/triton_split"


def compiled(name: str, own: dict[str, Any] | None = None, **sizes: Any) -> list[str]:
    """The kernels that a call launches, once all of them have compiled; none where it is not supported."""
    operator = discover().operator(name.partition("/")[0])
    made = operator.implementations[name.partition("/")[2]]
    problem = operator.complete(Problem(**{"H": 2, "K": 64, "V": 64, **sizes}), own)
    if made.unsupported(problem, made.default_tunables, operator.axes):
        return []
    call = Call(operator, made, problem, made.default_tunables, meta_inputs(operator, problem))
    launches = capture(call.run, "sm_90")
    assert launches
    for launch in launches:
        assert launch.status == "ok", f"{launch.kernel}: {launch.reason}"
    return [launch.kernel for launch in launches]


def cases() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every implementation of ours with calls of one token and of less than a chunk, whole or packed, with a state or not.

    The forward pass is part of the call of both passes. Decoding takes one token, from a state that it is given.
    """
    layouts = {1: ("dense", "packed:single"), 16: ("dense", "packed:ragged")}
    sequences = [
        {"T": T, "layout": layout, "initial_state": state, "pass_": "fwdbwd"}
        for T in layouts
        for layout in layouts[T]
        for state in (False, True)
    ]
    for operator in discover().operators.values():
        for made in operator.implementations.values():
            if made.origin == "ours":
                sizes = [{"T": 16, "pass_": "decode"}] if "decode" in made.passes else sequences
                yield from ((f"{operator.name}/{made.name}", each) for each in sizes)


@pytest.mark.parametrize(("name", "own"), [(STREAM, {}), (SPLIT, {}), (STREAM, {"ragged": True})], ids=str)
def test_decoding_over_caches_that_nobody_shares(name: str, own: dict[str, Any]) -> None:
    """A cache of 16 tokens is one tile: each pair is whole, so no parts are stored unless lengths may say otherwise."""
    kernels = compiled(name, own, T=16, H=16, K=128, V=128, pass_="decode")
    assert len(kernels) == (2 if own else 1)


@pytest.mark.long
@pytest.mark.parametrize(("name", "sizes"), list(cases()), ids=str)
def test_every_implementation(name: str, sizes: dict[str, Any]) -> None:
    compiled(name, **sizes)
