"""Problems, cases and their ids."""

from itertools import pairwise

import pytest

from suite import Axis, Case, Problem
from suite.errors import UsageError
from suite.problem import PACKED

CAUSAL = Axis("causal", (True, False))


def test_id_leaves_defaults_out() -> None:
    problem = Problem(B=4, T=4096, H=16, K=128, dtype="bf16")
    case = Case("retention", "triton_chunk", problem, (("chunk", 64),))
    assert case.case_id == "retention/triton_chunk/B4_T4096_H16_K128_V128_bf16_fwd_C64"


def test_id_names_what_differs() -> None:
    problem = Problem(
        T=64,
        H=4,
        HK=2,
        HV=8,
        K=32,
        V=64,
        dtype="fp16",
        pass_="bwd",
        layout="packed:ragged",
        state_dtype="bf16",
        initial_state=True,
        axes=(("causal", False),),
    )
    case = Case("op", "impl", problem, (("chunk", 32), ("splits", 4)), (CAUSAL,))
    assert case.case_id == (
        "op/impl/B1_T64_H4_HK2_HV8_K32_V64_fp16_bwd_packed-ragged_state-bf16_h0_no-causal_C32_splits-4"
    )
    assert case.problem_id == "op/B1_T64_H4_HK2_HV8_K32_V64_fp16_bwd_packed-ragged_state-bf16_h0_no-causal"


def test_columns_round_trip() -> None:
    problem = Problem(B=2, T=8, H=4, HV=8, K=16, V=32, dtype="fp32", pass_="decode", axes=(("causal", True),))
    assert Problem.from_columns(problem.columns(), problem.axes) == problem
    assert problem.columns()["pass"] == "decode"


@pytest.mark.parametrize(
    ("sizes", "HS", "groups"),
    [({"H": 8, "HK": 2, "HV": 2}, 8, 2), ({"H": 4, "HV": 8}, 8, 4), ({"H": 3}, 3, 3)],
)
def test_heads(sizes: dict[str, int], HS: int, groups: int) -> None:
    problem = Problem(**sizes)
    assert (problem.HS, problem.groups) == (HS, groups)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"T": 0}, "T = 0"),
        ({"B": -1}, "B = -1"),
        ({"K": True}, "K = True"),
        ({"dtype": "bf61"}, "did you mean 'bf16'"),
        ({"pass_": "forward"}, "unknown pass 'forward'"),
        ({"layout": "packed:raged"}, "did you mean 'packed:ragged'"),
        ({"layout": "packed:ragged", "B": 2}, "B = 1"),
        ({"H": 6, "HK": 4}, "HK = 4 does not divide 6"),
    ],
)
def test_what_is_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words.replace("(", r"\(")) as raised:
        Problem(**given)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("T", [1, 2, 63, 2048, 5000])
@pytest.mark.parametrize("name", PACKED)
def test_packed_boundaries_are_a_partition(name: str, T: int) -> None:
    bounds = Problem(T=T, layout=f"packed:{name}").cu_seqlens
    assert bounds is not None
    assert bounds[0] == 0
    assert bounds[-1] == T
    assert all(a <= b for a, b in pairwise(bounds))


def test_gaps_holds_empty_sequences_first_last_and_between_and_sequences_of_one_token() -> None:
    problem = Problem(T=40, layout="packed:gaps")
    assert problem.cu_seqlens == (0, 0, 1, 20, 20, 21, 40, 40)
    assert (problem.N, problem.empty) == (7, (0, 3, 6))
    assert Problem(T=40).empty == ()


@pytest.mark.parametrize("T", [1, 20, 40])
def test_ragged_keeps_its_sequence_of_one_token_however_few_there_are(T: int) -> None:
    problem = Problem(T=T, layout="packed:ragged")
    assert problem.cu_seqlens is not None
    assert problem.cu_seqlens[:2] == (0, 1)
    assert problem.N == 5


def test_ragged_matches_the_field_s_example() -> None:
    assert Problem(T=2048, layout="packed:ragged").cu_seqlens == (0, 1, 100, 300, 1200, 2048)


def test_tokens() -> None:
    assert Problem(B=3, T=100).tokens == 300
    assert Problem(B=3, T=100, pass_="decode").tokens == 3


def test_more_heads_of_keys_than_of_queries_and_values_are_refused() -> None:
    with pytest.raises(UsageError, match="HK = 2 is more than H = 1 and HV = 1"):
        Problem(H=1, HK=2, HV=1)
    assert Problem(H=2, HK=4, HV=4).HS == 4


def test_lengths_are_counted_and_never_listed() -> None:
    assert Problem(B=10**9, T=3, K=1, H=1).lengths == {3: 10**9}
    assert Problem(T=40, layout="packed:gaps").lengths == {1: 2, 19: 2}
    for name in PACKED:
        packed = Problem(T=2048, layout=f"packed:{name}")
        assert sum(n * count for n, count in packed.lengths.items()) == 2048
        assert sum(packed.lengths.values()) == packed.N - len(packed.empty)
