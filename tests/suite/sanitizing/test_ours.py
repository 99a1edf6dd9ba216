"""Our kernels under the sanitizer have no findings: a few quickly; all, in each regime and layout, in long tests."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("triton")

import kernels.scalar_decay.plan
from suite import Problem
from suite.checks.checker import Check, Checker, refusal
from suite.discovery import discover
from suite.sanitizing import Sanitizer
from suite.sanitizing.checking import at_invented_sizes, sanitized
from suite.targets import aim
from tests.kernels.regimes import SMS, aimed, regimes

pytestmark = pytest.mark.interpret

REGISTRY = discover()
OURS = [
    (operator.name, made.name)
    for operator in REGISTRY.operators.values()
    for made in operator.implementations.values()
    if made.origin == "ours" and "interpret" in made.devices
]
# Operators whose heads have sizes of their own.
OWN: dict[str, dict[str, Any]] = {"triton_efficient": {"causal": False}}
SIZES = {"selective_scan": {"H": 1, "HV": 16, "K": 8, "V": 1}, "s4d": {"K": 16, "V": 1}}


def check(name: str, made: str, regime: str = "segments", *, addresses: bool = False, **axes: Any) -> Check:
    """The sanitized check of one implementation, in the regime that is named."""
    operator = REGISTRY.operators[name]
    implementation = operator.implementations[made]
    pass_ = axes.pop("pass_", "decode" if "decode" in implementation.passes else "fwdbwd")
    state = operator.stateful and pass_ != "decode"
    sizes = {"B": 1, "T": 20, "H": 1, "K": 16, "V": 16, "dtype": "fp32", "initial_state": state}
    problem = operator.complete(Problem(**{**sizes, **SIZES.get(name, {}), **axes, "pass_": pass_}), OWN.get(made, {}))
    tunables = {**implementation.default_tunables, **({"chunk": 16} if "chunk" in implementation.tunables else {})}
    if reason := refusal(operator, implementation, problem, tunables, "interpret"):
        pytest.skip(reason)
    with aimed(regime):
        assert regimes(implementation, problem, tunables) <= {regime}
        if addresses:
            return at_invented_sizes(operator, implementation, problem, tunables)
        return sanitized(Checker(operator, problem, device="cpu", seed=0), implementation, tunables)


STEPS = [(name, made) for name, made in OURS if "decode" in REGISTRY.operators[name].implementations[made].passes]
SEQUENCES = [each for each in OURS if each not in STEPS]
# They go through Triton's own function for each pair of elements.
SCANS = ("s4d", "selective_scan")
# Slow, or made of kernels that others of their family have too.
SLOW = {*SCANS, "triton_efficient", "gated_delta_product", "hgrn2", "retention", "lightning_attention"}
# Fewer tokens are one segment.
LONGER = ("delta_rule", "gated_delta_rule", "gated_scan", *SCANS)
# On chip they hold few tokens at most.
SHORT = [(name, "on-chip") for name in ("gated_scan", *SCANS)]


@pytest.mark.parametrize(("name", "made"), STEPS)
def test_steps_have_no_findings_in_bf16(name: str, made: str) -> None:
    found = check(name, made, B=2, H=2, dtype="bf16")
    assert found.ok, found.reason


@pytest.mark.parametrize(("name", "made"), SEQUENCES)
def test_whole_sequences_have_no_findings_in_bf16(name: str, made: str) -> None:
    found = check(name, made, "on-chip", T=30, dtype="bf16")
    assert found.ok, found.reason


@pytest.mark.parametrize(
    ("name", "made"),
    [pytest.param(*each, marks=[pytest.mark.long] if {*each} & SLOW else []) for each in SEQUENCES],
)
def test_segments_of_packed_sequences_have_no_findings_in_bf16(name: str, made: str) -> None:
    """Some have no tokens."""
    found = check(name, made, "segments", T=80 if name in LONGER else 50, layout="packed:ragged", dtype="bf16")
    assert found.ok, found.reason


@pytest.mark.parametrize(("name", "made"), [("ssd", "triton_chunk"), ("retention", "triton_chunk")])
def test_many_segments_are_combined_without_findings(name: str, made: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a launch of its own, where there are more than a program joins by itself."""
    monkeypatch.setattr(kernels.scalar_decay.plan, "MOST_JOINED", 1)
    launched = set[str]()
    run = Sanitizer._launch

    def noting(self: Sanitizer, executor: Any, *rest: Any) -> None:
        launched.add(executor.fn.__name__)
        run(self, executor, *rest)

    monkeypatch.setattr(Sanitizer, "_launch", noting)
    found = check(name, made, "segments", T=80, dtype="bf16")
    assert found.ok, found.reason
    assert "linear_segment_combine_kernel" in launched


def test_tokens_one_by_one_wait_before_they_complete_dq() -> None:
    operator = REGISTRY.operators["gated_linear_attention"]
    implementation = operator.implementations["triton_chunk"]
    sizes: dict[str, Any] = {"B": 1, "T": 4, "H": 1, "K": 16, "V": 16, "dtype": "fp32", "pass_": "fwdbwd"}
    with aim("sm_90"):
        checker = Checker(operator, operator.complete(Problem(**sizes)), device="cpu", seed=0)
        # Gates beyond what a whole tile can hold.
        checker.inputs["log_decay"].data.mul_(2000)
        found = sanitized(checker, implementation, implementation.default_tunables)
    assert "barrier" not in found.reason, found.reason


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("layout", ["dense", "packed:ragged", "packed:gaps"])
@pytest.mark.parametrize("regime", list(SMS))
@pytest.mark.parametrize(("name", "made"), SEQUENCES)
def test_none_has_findings(name: str, made: str, regime: str, layout: str, dtype: str) -> None:
    T = 30 if (name, regime) in SHORT else 80
    found = check(name, made, regime, layout=layout, dtype=dtype, T=T, H=1 if name in SCANS else 2)
    assert found.ok, found.reason


@pytest.mark.long
@pytest.mark.parametrize(("name", "made"), OURS)
def test_none_overflows_at_sizes_that_do_not_exist(name: str, made: str) -> None:
    found = check(name, made, addresses=True, T=64)
    if found.status == "unsupported":
        pytest.skip(found.reason)
    assert found.ok, found.reason
