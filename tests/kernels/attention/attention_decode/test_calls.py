"""Attention over a KV cache without running a kernel: cost, inputs, launches, plans, and what is refused."""

from __future__ import annotations

import pytest
import torch

from kernels.attention.attention_decode.decode import step_split, step_stream
from kernels.attention.attention_decode.plan import candidates, key, plan, shape_of, splits
from kernels.attention.attention_decode.spec import UNUSED, attention_decode, lengths_of
from suite import Problem
from suite.checks.calling import Call
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs
from suite.errors import UsageError
from suite.static import capture
from suite.static.profiling import meta_inputs
from suite.targets import aim
from suite.tuning import forcing

IMPLEMENTATIONS = {"split": "triton_split", "stream": "triton_stream"}
RAGGED = {"ragged": True, "page": 16, "queries": 2}


def problem(own=None, **sizes) -> Problem:
    base = {"B": 4, "T": 50, "H": 4, "HK": 2, "HV": 2, "K": 8, "V": 16, "dtype": "fp32", "pass_": "decode"}
    return attention_decode.complete(Problem(**base | sizes), own)


@pytest.mark.parametrize("own", [{}, {"ragged": True}, {"page": 16}, RAGGED], ids=str)
def test_cost_counts_each_row_that_a_query_sees(own) -> None:
    at = problem(own)
    inputs = draw_inputs(attention_decode, at, 0)
    given = inputs["lengths"].tolist() if "lengths" in inputs else [50] * 4
    Q = inputs["q"].shape[1]
    flops, rows, pages = 0, 0, 0
    for length in given:
        rows += length
        pages += len({row // 16 for row in range(length)})
        flops += sum((2 * 8 + 2 * 16) * 4 for i in range(Q) for j in range(length) if j < length - Q + 1 + i)
    cost = attention_decode.cost_of(at)
    assert cost.flops_alg == flops
    assert cost.bytes_state == 4 * rows * 2 * (8 + 16)
    beside = 4 * 4 * len(given) * Q * (8 + 16) + (4 * 4 if own else 0) + (4 * pages if "page" in own else 0)
    assert cost.bytes_compulsory == cost.bytes_state + beside


@pytest.mark.parametrize("own", [{"ragged": True}, RAGGED], ids=str)
def test_inputs_hold_large_values_wherever_nobody_may_read(own) -> None:
    at = problem(own)
    inputs = draw_inputs(attention_decode, at, 0)
    lengths, page = lengths_of(at), inputs["state"][0].shape[1]
    assert lengths[:2] == (50, own.get("queries", 1))
    assert inputs["lengths"].tolist() == inputs["lengths_cpu"].tolist() == list(lengths)
    used = torch.zeros(inputs["state"][0].shape[:2], dtype=torch.bool)
    for n, length in enumerate(lengths):
        for row in range(length):
            slot = int(inputs["block_table"][n, row // page]), row % page
            assert not used[slot]
            used[slot] = True
    for pool in inputs["state"]:
        assert (pool[~used] == UNUSED).all()
        assert pool[used].abs().max() < 10


@pytest.mark.parametrize(
    ("sizes", "own", "reason"), [({"HV": 4}, {}, "HK = HV"), ({"T": 2}, {"queries": 4}, "does not hold 4 queries")]
)
def test_where_it_is_not_defined(sizes, own, reason: str) -> None:
    found = check_case(attention_decode, "triton_split", problem(own, **sizes), device="cpu")
    assert found.status == "unsupported"
    assert reason in found.reason


@pytest.mark.parametrize("schedule", IMPLEMENTATIONS)
@pytest.mark.parametrize("sizes", [{"B": 1, "T": 32768, "HK": 2, "HV": 2}, {"B": 64, "T": 8192}], ids=["one", "many"])
@pytest.mark.parametrize("own", [{}, {"page": 64, "ragged": True}], ids=["contiguous", "paged"])
def test_launches_and_traffic(schedule: str, sizes, own) -> None:
    at = attention_decode.complete(Problem(**sizes, H=16, K=128, pass_="decode"), own)
    made = attention_decode.implementations[IMPLEMENTATIONS[schedule]]
    call = Call(attention_decode, made, at, {}, meta_inputs(attention_decode, at))
    launches = capture(call.run, "sm_90", compiled=False)
    assert len(launches) <= 2
    # A pool has one page more than its sequences use.
    compulsory = attention_decode.cost_of(at).bytes_compulsory
    assert 0.99 < sum(launch.traffic_bytes for launch in launches) / compulsory < 1.08


@pytest.mark.long
@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("K", [64, 128, 256])
@pytest.mark.parametrize("schedule", IMPLEMENTATIONS)
def test_the_tables_tiles_do_not_spill(schedule: str, K: int, arch: str) -> None:
    for own in ({}, {"page": 16, "ragged": True}):
        at = attention_decode.complete(Problem(B=2, T=32768, H=16, HK=2, HV=2, K=K, pass_="decode"), own)
        made = attention_decode.implementations[IMPLEMENTATIONS[schedule]]
        call = Call(attention_decode, made, at, {}, meta_inputs(attention_decode, at))
        for launch in capture(call.run, arch):
            assert launch.status == "ok", launch.reason
            assert launch.binary is not None
            assert launch.binary.spill_bytes == 0
        step = capture(call.run, arch)[0].binary
        assert step is not None
        assert step.tensor_path == {"sm_80": "hmma", "sm_90": "hgmma", "sm_100": "utchmma"}[arch]


def test_parts_fill_the_gpu_in_one_round_or_stay_whole() -> None:
    assert splits(pairs=2, tiles=512, fits=264) == 128  # 256 programs of 4 tiles
    assert splits(pairs=264, tiles=512, fits=264) == 1
    assert splits(pairs=1000, tiles=1, fits=264) == 1
    # 300 whole pairs would take two rounds, the second nearly empty.
    assert splits(pairs=300, tiles=128, fits=264) > 1
    for pairs, tiles in ((1, 1), (7, 100), (40, 33), (1, 8192)):
        number = splits(pairs, tiles, 264)
        # No split is empty when all sequences are as long as the cache.
        assert -(-tiles // -(-tiles // number)) == number


@pytest.mark.parametrize("schedule", IMPLEMENTATIONS)
def test_a_tuned_launch_takes_the_tables_place(schedule: str) -> None:
    shape = shape_of(attention_decode.complete(Problem(B=1, T=32768, H=16, HK=2, HV=2, K=128, pass_="decode")))
    with aim("sm_90"):
        (name, launches), *others = candidates(shape, schedule).items()
        assert not others
        assert name == key(shape, schedule)
        assert 4 <= len(launches) <= 12
        table, _ = plan(shape, schedule)
        assert launches[0] == vars(table)
        for launch in launches[1:]:
            assert launch != launches[0]
            with forcing({name: launch}):
                assert vars(plan(shape, schedule)[0]) == launch


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, device="meta", dtype=dtype)


def call_with(step, **changes) -> None:
    given = {
        "q": meta(2, 1, 4, 16),
        "state": (meta(2, 50, 2, 16), meta(2, 50, 2, 16)),
        "lengths": meta(2, dtype=torch.int32),
    }
    given |= changes
    step(given.pop("q"), **given)


POOLS = (meta(9, 16, 2, 16), meta(9, 16, 2, 16))
TABLE = meta(2, 4, dtype=torch.int32)


@pytest.mark.parametrize("step", [step_split, step_stream])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": (meta(2, 50, 2, 32), meta(2, 50, 2, 16))}, r"cache of keys is \(2, 50, 2, 32\)"),
        ({"state": (meta(50, 2, 2, 16).transpose(0, 1), meta(2, 50, 2, 16))}, "not contiguous"),
        ({"q": meta(2, 1, 3, 16)}, "3 query heads do not share 2"),
        ({"q": meta(2, 1, 4, 16, dtype=torch.float16)}, "make them agree"),
        ({"q": meta(2, 1, 4, 512), "state": (meta(2, 50, 2, 512), meta(2, 50, 2, 512))}, "head dims to 256"),
        ({"lengths": meta(3, dtype=torch.int32)}, "an int32 for each of 2 sequences"),
        ({"lengths": meta(2, dtype=torch.int64)}, "an int32 for each of 2 sequences"),
        ({"lengths": meta(4, dtype=torch.int32)[::2]}, "lengths are not contiguous"),
        ({"lengths": torch.tensor([50, 51], dtype=torch.int32)}, "lengths\\[1\\] = 51; a cache of 50 rows has 0 to 50"),
        ({"lengths": torch.tensor([-1, 50], dtype=torch.int32)}, "lengths\\[0\\] = -1; a cache of 50 rows has 0 to 50"),
        ({"state": POOLS}, "pass page= if"),
        ({"state": POOLS, "page": 32, "block_table": TABLE}, "pages of 16 rows"),
        ({"state": (meta(9, 48, 2, 16), meta(9, 48, 2, 16)), "page": 48, "block_table": TABLE}, "a power of 2"),
        ({"state": POOLS, "page": 16}, "without block_table or lengths"),
        ({"state": POOLS, "page": 16, "block_table": TABLE, "lengths": None}, "without block_table or lengths"),
        ({"state": POOLS, "page": 16, "block_table": meta(3, 4, dtype=torch.int32)}, r"pass int32 \[2, pages\]"),
        ({"state": POOLS, "page": 16, "block_table": meta(2, 4, dtype=torch.int64)}, r"pass int32 \[2, pages\]"),
    ],
)
def test_bad_calls_name_the_tensor_and_the_remedy(step, changes, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        call_with(step, **changes)


@pytest.mark.parametrize("step", [step_split, step_stream])
def test_tables_lengths_and_pages_on_a_cpu_are_read_before_a_launch(step) -> None:
    q, state = torch.empty(2, 1, 2, 16), (torch.empty(3, 16, 1, 16), torch.empty(3, 16, 1, 8))
    lengths = torch.tensor([20, 16], dtype=torch.int32)
    table = torch.tensor([[0, 3], [1, -5]], dtype=torch.int32)
    for changes, words in (
        ({}, r"block_table\[0, 1\] = 3; the pool has the pages 0 to 2"),
        ({"lengths": [20, 16]}, "lengths is a list"),
        ({"lengths": lengths.to("meta")}, "lengths is on meta, the others on cpu"),
        ({"block_table": table.tolist()}, "block_table is a list"),
        ({"block_table": table[:, :0]}, r"block_table is torch.int32 \(2, 0\)"),
        ({"page": None}, "page = None is not supported"),
    ):
        with aim("sm_90"), pytest.raises(UsageError, match=words):
            step(q, **{"state": state, "block_table": table, "lengths": lengths, "page": 16, **changes})


@pytest.mark.parametrize("step", [step_split, step_stream])
def test_no_sequences_launch_nothing(step) -> None:
    state = torch.empty(0, 5, 1, 16), torch.empty(0, 5, 1, 8)
    with aim("sm_90"):
        assert step(torch.empty(0, 1, 2, 16), state=state).shape == (0, 1, 2, 8)
