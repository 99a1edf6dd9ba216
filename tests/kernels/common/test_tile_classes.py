"""Which tiles every family takes where it has no table, and where a compiler's fault leaves one stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from kernels.common.tiles import distinct, stages_of
from suite import Problem
from suite.discovery import discover
from suite.registry import Implementation, Operator
from suite.targets import BLOCKS, REPRESENTATIVES, Target, aim
from suite.tuning import forcing

KiB = 1024
# A GeForce RTX 5090 in all that host code may ask, but for the SMs and the cache, which are those to compare with.
CONSUMER = Target("sm_120", "", 108, 99 * KiB, 100 * KiB, 65536, 1536, BLOCKS["sm_120"], 40 * 1024 * KiB)
OURS = [
    f"{operator.name}/{made.name}"
    for operator in discover().operators.values()
    for made in operator.implementations.values()
    if made.origin == "ours"
]
SIZES = ((2048, 64, "bfloat16"), (65536, 128, "bfloat16"), (2048, 256, "bfloat16"), (2048, 128, "float32"))
# Kernels, as configurations name them, whose loops read the state that they carry, or add two products to one sum.
CARRYING = {"output", "dq", "dk", "dk_dv", "map", "state", "reverse"}
# Implementations with tiles of their own where a block has little shared memory.
SMALLER = {
    "softmax_attention/triton_flash",
    "sliding_window_attention/triton_flash",
    "gated_linear_attention/triton_chunk",
    "hgrn2/triton_chunk",
    "rwkv6/triton_chunk",
}
STATEFUL = [
    "linear_attention/triton_chunk",
    "retention/triton_chunk",
    "ssd/triton_chunk",
    "mlstm/triton_chunk",
    "gated_linear_attention/triton_chunk",
    "rwkv6/triton_chunk",
    "gated_delta_rule/triton_chunk",
    "kimi_delta_attention/triton_chunk",
    "rwkv7/triton_chunk",
]


def found(name: str) -> tuple[Operator, Implementation]:
    operator = discover().operator(name.partition("/")[0])
    return operator, operator.implementations[name.partition("/")[2]]


def problems(operator: Operator, made: Implementation) -> Iterator[Problem]:
    """Whole and segmented calls of every head dim, dtype and pass that the implementation takes."""
    for pass_ in sorted(made.passes):
        for T, size, dtype in SIZES:
            for heads in (1, 128):
                given = Problem(T=1 if pass_ == "decode" else T, H=heads, K=size, V=size, dtype=dtype, pass_=pass_)
                problem = operator.complete(given, {"causal": False} if made.name == "triton_efficient" else None)
                if made.unsupported(problem, made.default_tunables, operator.axes) is None:
                    yield problem


def configured(name: str, target: Target | str) -> list[dict[str, Any]]:
    operator, made = found(name)
    with aim(target):
        told = [made.configured(problem, made.default_tunables) for problem in problems(operator, made)]
    assert told
    return told


@pytest.mark.parametrize("name", OURS)
def test_consumer_blackwell_takes_the_tiles_of_its_shared_memory(name: str) -> None:
    told = configured(name, CONSUMER)
    assert told == configured(name, replace(CONSUMER, arch="sm_86"))
    # With that of an A100, those of an A100.
    assert configured(name, replace(CONSUMER, shared_bytes=163 * KiB)) == configured(name, "sm_80")
    assert (told == configured(name, "sm_80")) == (name not in SMALLER)


def test_the_tiles_that_consumer_blackwell_does_not_take_are_others() -> None:
    other = [name for name in OURS if configured(name, "sm_80") != configured(name, replace(CONSUMER, arch="sm_100"))]
    assert len(other) > len(OURS) // 3


def stages(configuration: Mapping[str, Any]) -> dict[str, int]:
    """Stages of the kernels whose loops read the state that they carry."""
    return {kernel: of["stages"] for kernel, of in configuration.items() if kernel in CARRYING}


@pytest.mark.parametrize("name", STATEFUL)
def test_loops_that_read_what_they_carry_have_one_stage_on_sm_100(name: str) -> None:
    for target in ("sm_100", replace(REPRESENTATIVES["sm_100"], arch="sm_103")):
        told = [stages(each) for each in configured(name, target)]
        assert all(told)
        assert {n for each in told for n in each.values()} == {1}
    assert any(n > 1 for each in configured(name, "sm_90") for n in stages(each).values())


def carries(key: str) -> bool:
    """Whether a tuning key is of a kernel in CARRYING; "state" is one in the delta rule, and a sum elsewhere."""
    kind = key.split("/")[1].removeprefix("fused-").removeprefix("prepared_")
    return kind in CARRYING and (kind != "state" or key.startswith("delta/"))


@pytest.mark.parametrize("name", STATEFUL)
def test_tuning_neither_tries_nor_keeps_more_stages_there(name: str) -> None:
    operator, made = found(name)
    for problem in problems(operator, made):
        with aim("sm_100"):
            tried = made.searched(problem, made.default_tunables)
            kept = {key: configs for key, configs in tried.items() if carries(key)}
            assert kept
            for configs in kept.values():
                assert {config["stages"] for config in configs} == {1}
                assert len({tuple(sorted(config.items())) for config in configs}) == len(configs)
            with forcing({key: {**configs[0], "stages": 2} for key, configs in kept.items()}):
                told = stages(made.configured(problem, made.default_tunables))
                assert set(told.values()) == {1}


def test_only_that_class_and_those_loops_lose_stages() -> None:
    for arch, carries, left in (("sm_90", True, 3), ("sm_100", True, 1), ("sm_100", False, 3), ("sm_120", True, 3)):
        with aim(Target(arch)):
            assert stages_of(3, carries=carries) == left


def test_configs_that_differ_in_forbidden_stages_are_one() -> None:
    configs = [{"width": 64, "stages": 2}, {"width": 64, "stages": 1}, {"width": 32, "stages": 1}]
    with aim("sm_100"):
        assert distinct(configs, carries=True) == [{"width": 64, "stages": 1}, {"width": 32, "stages": 1}]
    with aim("sm_90"):
        assert distinct(configs, carries=True) == configs
