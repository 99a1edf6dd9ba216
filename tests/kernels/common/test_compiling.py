"""Small calls of every Triton implementation compile for a GPU, with all branches: an interpreted call takes a few.

Above all those where a tensor is absent: without a state, without lengths, with every pair whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from suite import Problem
from suite.checks.calling import Call
from suite.discovery import discover
from suite.static.capturing import Recorder
from suite.static.profiling import meta_inputs
from suite.static.stub_driver import pretending
from suite.targets import BLOCKS, REPRESENTATIVES, Target

STREAM, SPLIT = "attention_decode/triton_stream", "attention_decode/triton_split"
KiB = 1024
HOPPER = REPRESENTATIVES["sm_90"]
# GPUs whose blocks have the least shared memory.
SMALL = {
    arch: Target(arch, "", 84, 99 * KiB, 100 * KiB, 65536, 1536, BLOCKS[arch], 6 * KiB * KiB)
    for arch in ("sm_86", "sm_89", "sm_120")
}
# Calls with kernels whose tiles of sm_80 need more of it.
LARGE = (
    ("softmax_attention/triton_flash", {"K": 128, "V": 128, "dtype": "float32"}),
    ("softmax_attention/triton_flash", {"K": 256, "V": 256, "dtype": "float32"}),
    ("gated_linear_attention/triton_chunk", {"K": 128, "V": 128}),
    ("rwkv6/triton_chunk", {"K": 128, "V": 128}),
    ("hgrn2/triton_chunk", {"K": 128, "V": 128}),
)


def compiled(name: str, own: dict[str, Any] | None = None, target: Target = HOPPER, **sizes: Any) -> list[str]:
    """The kernels that a call launches, once all of them have compiled; none where it is not supported."""
    operator = discover().operator(name.partition("/")[0])
    made = operator.implementations[name.partition("/")[2]]
    problem = operator.complete(Problem(**{"H": 2, "K": 64, "V": 64, **sizes}), own)
    if made.unsupported(problem, made.default_tunables, operator.axes):
        return []
    call = Call(operator, made, problem, made.default_tunables, meta_inputs(operator, problem))
    with pretending(target), Recorder(target) as recorder:
        call.run()
    assert recorder.launches
    for launch in recorder.launches:
        assert launch.status == "ok", f"{launch.kernel}: {launch.reason}"
    return [launch.kernel for launch in recorder.launches]


def cases() -> Iterator[tuple[str, dict[str, Any]]]:
    """Our implementations with calls of one token and of less than a chunk, dense or packed, with a state or without.

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


def test_a_tile_follows_from_the_shared_memory_of_a_block() -> None:
    compiled("gated_linear_attention/triton_chunk", target=SMALL["sm_86"], T=128, K=128, V=128, pass_="fwd")


@pytest.mark.long
@pytest.mark.parametrize("arch", SMALL)
@pytest.mark.parametrize("heads", [2, 128], ids=["segments", "on_chip"])
@pytest.mark.parametrize(("name", "sizes"), LARGE, ids=str)
def test_tiles_fit_where_a_block_has_little_shared_memory(
    name: str, sizes: dict[str, Any], heads: int, arch: str
) -> None:
    compiled(name, target=SMALL[arch], T=4096, H=heads, pass_="fwdbwd", **sizes)
