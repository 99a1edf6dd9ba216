"""Linear attention in PyTorch with every feature map, causal and not, against the oracle; what Based takes."""

from __future__ import annotations

import pytest
import torch

import baselines.scalar_decay.linear_attention.chunk
import baselines.scalar_decay.linear_attention.step  # noqa: F401  (registers)
from baselines.scalar_decay.linear_attention.based import BASED
from baselines.scalar_decay.linear_attention.naive import naive
from kernels.attention.softmax_attention.spec import attention
from kernels.feature_maps.maps import favor_features
from kernels.feature_maps.registry import FEATURE_MAPS, NAMES
from kernels.scalar_decay.linear_attention.spec import features_of, linear_attention, recurrence
from suite import Problem
from suite.checks.checker import check_case, refusal
from suite.checks.inputs import draw_inputs, flat
from suite.numerics import difference, rms

SEQUENCES = ("naive", "torch_chunk")
NEW = [name for name in NAMES if name not in ("identity", "relu", "elu1")]


def problem(own: dict, **changes) -> Problem:
    sizes = {"T": 70, "H": 4, "HK": 2, "HV": 2, "K": 8, "V": 12, "dtype": "fp32", "pass_": "fwdbwd"}
    return linear_attention.complete(Problem(**{**sizes, **changes}), own)


@pytest.mark.parametrize("implementation", SEQUENCES)
@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_every_map_matches_the_oracle(implementation: str, name: str, normalised: bool, causal: bool) -> None:
    own = {"feature_map": name, "normalised": normalised, "causal": causal}
    found = check_case(linear_attention, implementation, problem(own, initial_state=causal))
    refused = FEATURE_MAPS[name].projected and not normalised
    assert found.status == ("unsupported" if refused else "ok"), found.reason


@pytest.mark.parametrize("implementation", SEQUENCES)
@pytest.mark.parametrize("own", [{"feature_map": "relu"}, {"feature_map": "elu1", "normalised": True}], ids=str)
def test_without_causality_a_token_reads_its_whole_sequence(implementation: str, own: dict) -> None:
    for changes in ({"T": 1, "pass_": "fwd"}, {"T": 100, "B": 2}, {"T": 90, "layout": "packed:halves"}):
        found = check_case(linear_attention, implementation, problem({**own, "causal": False}, **changes))
        assert found.ok, found.reason


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_stays_within_its_limit(name: str, dtype: str) -> None:
    own = {"feature_map": name, "normalised": True}
    found = check_case(linear_attention, "torch_chunk", problem(own, K=16, dtype=dtype, pass_="fwd"))
    assert found.ok, found.reason


@pytest.mark.parametrize("features", [64, 256])
@pytest.mark.parametrize("spread", [1.0, 2.0, 3.0])
def test_favor_is_the_quotient_of_its_features_however_large_q_and_k_are(spread: float, features: int) -> None:
    """The oracle in float64, naive in float32, against sums without any eps or maximum, in float64."""
    at = problem({"feature_map": "favor", "normalised": True, "features": features}, T=64, H=1, HK=1, HV=1, K=64, V=8)
    inputs = draw_inputs(linear_attention, at, 0)
    inputs["q"], inputs["k"] = inputs["q"] * spread, inputs["k"] * spread
    exact = {name: x.double() for name, x in inputs.items()}
    phi_q, phi_k = (favor_features(exact[name][0, :, 0], exact["projection"], query=False) for name in "qk")
    weights = (phi_q @ phi_k.T).tril()
    expected = (weights @ exact["v"][0, :, 0] / weights.sum(-1, keepdim=True))[None, :, None]
    words = {"feature_map": "favor", "normalised": True}
    assert difference(linear_attention.oracle(**exact, **words)[0], expected).error < 1e-9
    assert difference(naive(**inputs, **words)[0], expected).error < 1e-4


@pytest.mark.parametrize("name", NEW)
def test_a_step_keeps_as_many_rows_as_there_are_features(name: str) -> None:
    at = problem({"feature_map": name, "normalised": True, "features": 32 if name == "favor" else 0}, pass_="decode")
    found = check_case(linear_attention, "torch_step", at)
    assert found.ok, found.reason
    S, z = draw_inputs(linear_attention, at, seed=0)["state"]
    assert (S.shape[2], z.shape[2]) == (features_of(at), features_of(at))


def test_the_oracle_without_causality_is_the_square() -> None:
    q, k, v = (
        torch.randn(1, 9, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i in range(3)
    )
    scores = torch.einsum("bihk,bjhk->bhij", q.softmax(-1), k.softmax(-1))
    expected = torch.einsum("bhij,bjhv->bihv", scores / scores.sum(-1, keepdim=True), v)
    o, _ = recurrence(q, k, v, feature_map="softmax", normalised=True, causal=False)
    torch.testing.assert_close(o, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("own", "changes", "words"),
    [
        ({"causal": False}, {"pass_": "decode"}, "no state to start from"),
        ({"causal": False}, {"initial_state": True}, "no state to start from"),
        ({"feature_map": "favor"}, {}, "needs normalised"),
        ({"feature_map": "relu", "features": 64}, {}, "relu has 8 by its definition"),
    ],
)
def test_what_is_not_defined_is_refused(own: dict, changes: dict, words: str) -> None:
    at = problem(own, **changes)
    made = linear_attention.implementations["torch_step" if at.pass_ == "decode" else "naive"]
    assert words in (refusal(linear_attention, made, at, {}, "cpu") or "")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pass_", ["fwd", "bwd"])
def test_compulsory_bytes_are_inputs_once_and_outputs_once(name: str, pass_: str) -> None:
    at = problem({"feature_map": name, "normalised": True}, pass_=pass_, initial_state=True)
    inputs = flat(draw_inputs(linear_attention, at, seed=0))
    projection = inputs.pop("projection", torch.empty(0))
    once = sum(x.numel() * 4 for x in inputs.values())
    states = sum(x.numel() * 4 for n, x in inputs.items() if n.startswith("initial_state"))
    written = at.tokens * at.HS * at.V * 4 + states
    expected = (once if pass_ == "fwd" else 2 * once) + written + projection.numel() * 4
    assert linear_attention.cost_of(at).bytes_compulsory == expected


def test_flops_grow_with_the_features() -> None:
    def flops(own: dict) -> float:
        return linear_attention.cost_of(problem({"normalised": True, **own}, pass_="fwd", H=2)).flops_alg

    base, n = flops({"feature_map": "relu"}), 70 * 2
    of_head = n * (4 * 12 + 4)
    rows = 70 * 4
    assert flops({"feature_map": "hedgehog"}) - base == of_head * 8 + rows * 3 * 16
    assert flops({"feature_map": "favor", "features": 32}) - base == of_head * 24 + rows * (2 * 8 * 32 + 2 * 8 + 3 * 32)
    assert flops({"feature_map": "taylor"}) - base == of_head * (45 - 8) + rows * (8 * 9 + 8)


def test_the_series_and_more_random_features_come_nearer_to_softmax_attention() -> None:
    """What a record's approximation_error says."""
    found = {}
    for name, features in (("relu", 0), ("taylor", 0), ("favor", 16), ("favor", 256)):
        own = {"feature_map": name, "normalised": True, "features": features}
        at = problem(own, pass_="fwd", K=16, V=16, H=2, HK=2, HV=2)
        check = check_case(linear_attention, "torch_chunk", at)
        assert check.ok, check.reason
        assert check.approximation_error is not None
        inputs = {n: x.double() for n, x in draw_inputs(linear_attention, at, seed=0).items()}
        o, _ = recurrence(**inputs, feature_map=name, normalised=True)
        target, _ = attention(inputs["q"], inputs["k"], inputs["v"])
        # The check takes one head; both are of the same size.
        assert check.approximation_error == pytest.approx(rms(o - target) / rms(target), rel=0.5)
        found[name, features] = check.approximation_error
    assert found["taylor", 0] < 0.8 * found["relu", 0]
    assert found["favor", 256] < 0.9 * found["favor", 16]


def test_where_nothing_is_approximated_there_is_no_error() -> None:
    for own in ({"feature_map": "taylor"}, {"normalised": True}):
        assert check_case(linear_attention, "torch_chunk", problem(own, pass_="fwd")).approximation_error is None


def test_based_refuses_what_it_can_not_serve() -> None:
    for name, widest in (("fla_parallel_based", 128), ("fla_fused_chunk_based", 16)):
        made = linear_attention.implementations[name]
        assert made.requires is BASED
        assert made.supports is not None
        assert made.supports(problem({"feature_map": "taylor"}, K=widest), {}) is None
        assert "takes K up to" in (made.supports(problem({"feature_map": "taylor"}, K=widest + 1), {}) or "")
        assert "only Taylor features" in (made.supports(problem({"feature_map": "relu"}), {}) or "")
        assert not {"initial_state", "cu_seqlens", "causal"} & made.parameters


@pytest.mark.parametrize(("V", "served"), [(12, True), (16, True), (17, False), (31, False), (32, True), (40, True)])
def test_based_s_block_of_v_must_be_a_power_of_2(V: int, served: bool) -> None:
    supports = linear_attention.implementations["fla_fused_chunk_based"].supports
    assert supports is not None
    reason = supports(problem({"feature_map": "taylor"}, V=V), {})
    assert (reason is None) == served
    assert reason is None or reason == f"fla's fused_chunk_based takes V up to 16 and from 32 on, not {V}"
