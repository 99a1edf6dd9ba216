"""Attention over a KV cache in PyTorch, against the oracle on the CPU, and adapters on stand-ins for libraries."""

from __future__ import annotations

import sys
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
import torch

from baselines.attention.attention_decode import flashinfer as flashinfer_adapter
from baselines.attention.attention_decode import pytorch
from baselines.attention.attention_decode.flash_attention import FLASH_2, flash_attn_2
from baselines.attention.attention_decode.flash_linear_attention import FLA
from baselines.attention.attention_decode.flashinfer import FLASHINFER, flashinfer
from kernels.attention.attention_decode.spec import attention_decode, decode
from suite import Problem
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs
from suite.errors import UsageError
from suite.numerics import difference

EVERYTHING = ("naive", "torch_paged")
PLAIN = ("sdpa_flash", "sdpa_math")
GROUPED = {"B": 3, "H": 6, "HK": 2, "HV": 2}
RAGGED_PAGES = {"ragged": True, "page": 16, "queries": 4}
OWN = [{"ragged": True}, {"page": 16}, {"queries": 2}, RAGGED_PAGES, {"page": 256, "ragged": True}]


def problem(own=None, **changes) -> Problem:
    base = {"B": 2, "T": 70, "H": 2, "K": 32, "dtype": "fp32", "pass_": "decode"}
    return attention_decode.complete(Problem(**base | changes), own)


def assert_ok(implementation: str, at: Problem) -> None:
    for seed in range(at.N * at.groups):
        found = check_case(attention_decode, implementation, at, seed=seed)
        assert found.status == "ok", found.reason


@pytest.mark.parametrize("implementation", [*EVERYTHING, *PLAIN])
@pytest.mark.parametrize("sizes", [{}, {"T": 1}, GROUPED, {"dtype": "bf16"}, {"dtype": "fp16"}], ids=str)
def test_contiguous_caches_of_one_length(implementation: str, sizes) -> None:
    assert_ok(implementation, problem(**sizes))


@pytest.mark.parametrize("implementation", EVERYTHING)
@pytest.mark.parametrize("own", OWN, ids=str)
def test_pages_lengths_and_queries(implementation: str, own) -> None:
    assert_ok(implementation, problem(own, **GROUPED, K=16, V=24))


@pytest.mark.parametrize("implementation", EVERYTHING)
def test_rows_beyond_a_length_may_hold_anything(implementation: str) -> None:
    inputs = draw_inputs(attention_decode, problem(RAGGED_PAGES), 0)
    expected = decode(**inputs)
    for pool in inputs["state"]:
        pool[pool == 1e4] = float("nan")
    inputs.pop("lengths_cpu")
    o = attention_decode.implementations[implementation].fn(**inputs, page=16)
    assert torch.allclose(o, expected, atol=1e-5)


@pytest.mark.parametrize("implementation", [*EVERYTHING, *PLAIN])
def test_scale_is_the_callers(implementation: str) -> None:
    inputs = draw_inputs(attention_decode, problem(), 0)
    o = attention_decode.implementations[implementation].fn(**inputs, scale=0.7)
    assert torch.allclose(o, decode(**inputs, scale=0.7), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "own", "dims", "reason"),
    [
        ("sdpa_math", {"page": 16}, {}, "serves only page-0"),
        ("sdpa_math", {"ragged": True}, {}, "torch_paged supports"),
        ("sdpa_math", {"queries": 2}, {}, "torch_paged supports"),
        ("sdpa_flash", {}, {"V": 64}, "one head dimension"),
        ("flash_attn_2", {"page": 64}, {}, "pages of a multiple of 256 rows, not 64"),
        ("flash_attn_2", {}, {"V": 64}, "one head dimension"),
        ("flash_attn_2", {"page": 256, "ragged": True, "queries": 4}, {}, None),
        ("flashinfer", {}, {}, "takes paged caches"),
        ("flashinfer", {"page": 16, "queries": 2}, {}, "one query"),
        ("flashinfer", {"page": 16}, {"K": 96}, "heads of 64, 128, 256, not K96"),
        ("flashinfer", {"page": 16}, {"K": 64, "V": 128}, "one head dimension"),
        ("flashinfer", {"page": 16, "ragged": True}, {"K": 64}, None),
        ("fla_step", {"ragged": True}, {}, "equal length"),
        ("fla_step", {}, {"V": 64}, None),
    ],
)
def test_what_each_takes(name: str, own, dims, reason: str | None) -> None:
    made = attention_decode.implementations[name]
    at = problem(own, **{"dtype": "fp32" if name.startswith("sdpa") else "bf16", **dims})
    # Whether the library is installed comes before what it takes.
    assert made.supports is not None
    found = made.unsupported(at, {}, attention_decode.axes) if name.startswith("sdpa") else made.supports(at, {})
    assert (found or "") == "" if reason is None else reason in (found or "")


@pytest.mark.parametrize(
    ("name", "requirement", "dtypes"),
    [
        ("flash_attn_2", FLASH_2, {"bfloat16", "float16"}),
        ("flashinfer", FLASHINFER, {"bfloat16", "float16"}),
        ("fla_step", FLA, {"bfloat16", "float16", "float32"}),
    ],
)
def test_each_adapter_says_how_to_install_its_library(name, requirement, dtypes, monkeypatch) -> None:
    made = attention_decode.implementations[name]
    assert (made.origin, made.passes, made.dtypes) == ("peer", {"decode"}, dtypes)
    assert made.requires is requirement
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert f"{requirement.distribution} is not installed: pip install " in requirement.missing()


def error_of(fn, at: Problem, seed: int = 0, **words) -> float:
    inputs = draw_inputs(attention_decode, at, seed)
    expected = decode(**inputs)
    inputs.pop("lengths_cpu", None)
    return difference(fn(**inputs, **words), expected, token_dim=1).error


def flash_attn_with_kvcache(
    q, k_cache, v_cache, k=None, v=None, cache_seqlens=None, block_table=None, softmax_scale=None, causal=False
):
    """flash-attn's contract: without causal every query sees all; a page has a multiple of 256 rows."""
    assert causal or q.shape[1] == 1
    assert block_table is None or k_cache.shape[1] % 256 == 0
    table = torch.arange(len(q))[:, None] if block_table is None else block_table
    return decode(q, state=(k_cache, v_cache), block_table=table, lengths=cache_seqlens, scale=softmax_scale)


@pytest.mark.parametrize(
    "own", [{}, {"ragged": True}, {"page": 256, "ragged": True}, {"queries": 4, "ragged": True}], ids=str
)
def test_flash_attn_2_on_a_stand_in(own, monkeypatch: pytest.MonkeyPatch) -> None:
    library: Any = ModuleType("flash_attn")
    library.flash_attn_with_kvcache = flash_attn_with_kvcache
    monkeypatch.setitem(sys.modules, "flash_attn", library)
    at = problem(own, T=300, **GROUPED)
    assert error_of(flash_attn_2, at, page=own.get("page", 0), scale=32**-0.5) < 1e-5


class Wrapper:
    """flashinfer's contract: pages of each sequence in CSR form, copied when it plans; then any number of runs."""

    planned = 0

    def __init__(self, workspace: torch.Tensor, layout: str, use_tensor_cores: bool) -> None:
        assert (workspace.dtype, layout) == (torch.uint8, "NHD")
        self.tensor_cores = use_tensor_cores

    def plan(
        self, indptr, indices, last_page_len, num_qo_heads, num_kv_heads, head_dim, page_size, *, q_data_type, sm_scale
    ) -> None:
        assert indptr.dtype == indices.dtype == last_page_len.dtype == torch.int32
        assert (num_qo_heads, num_kv_heads, head_dim, q_data_type) == (6, 2, 64, torch.float32)
        assert len(indices) == indptr[-1]
        Wrapper.planned += 1
        self.pages = [indices[a:b].clone() for a, b in pairwise(indptr.tolist())]
        self.lengths = (indptr.diff() - 1) * page_size + last_page_len
        self.scale = sm_scale

    def run(self, q, cache) -> torch.Tensor:
        parts = [
            decode(
                q[n][None, None],
                state=cache,
                block_table=pages[None],
                lengths=self.lengths[n : n + 1],
                scale=self.scale,
            )
            for n, pages in enumerate(self.pages)
        ]
        return torch.cat(parts)[:, 0]


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> type[Wrapper]:
    library: Any = ModuleType("flashinfer.decode")
    library.BatchDecodeWithPagedKVCacheWrapper = Wrapper
    monkeypatch.setitem(sys.modules, "flashinfer", ModuleType("flashinfer"))
    monkeypatch.setitem(sys.modules, "flashinfer.decode", library)
    monkeypatch.setattr(Wrapper, "planned", 0)
    monkeypatch.setattr(flashinfer_adapter, "_plans", [])
    return Wrapper


@pytest.mark.parametrize("tensor_cores", [True, False])
def test_flashinfer_on_a_stand_in(tensor_cores: bool, planned: type[Wrapper]) -> None:
    at = problem({"page": 16, "ragged": True}, **GROUPED, K=64)
    assert error_of(flashinfer, at, page=16, tensor_cores=tensor_cores) < 1e-5
    assert planned.planned == 1


def test_flashinfer_plans_again_when_table_lengths_or_shapes_change_and_not_before(planned: type[Wrapper]) -> None:
    at = problem({"page": 16, "ragged": True}, **GROUPED, K=64)
    one, other = (draw_inputs(attention_decode, at, seed) for seed in range(2))

    def error(inputs) -> float:
        tensors = {name: x for name, x in inputs.items() if name != "lengths_cpu"}
        return difference(flashinfer(**tensors, page=16), decode(**inputs)).error

    counts = []
    for inputs in (one, one, other, one, other):
        assert error(inputs) < 1e-5
        counts.append(planned.planned)
    assert counts == [1, 1, 2, 2, 2]
    # Other contents in the same memory, as when an answer is checked again.
    for name in ("q", "block_table"):
        one[name].copy_(other[name])
    for mine, new in zip(one["state"], other["state"], strict=True):
        mine.copy_(new)
    assert error(one) < 1e-5
    one["lengths"].sub_(1)
    one["lengths_cpu"].sub_(1)
    one["lengths"].clamp_(min=1)
    one["lengths_cpu"].clamp_(min=1)
    assert error(one) < 1e-5
    assert planned.planned == 4


def test_flashinfer_plans_once_for_each_input_set_that_a_timer_rotates(planned: type[Wrapper]) -> None:
    at = problem({"page": 16}, **GROUPED, K=64)
    first = {name: x for name, x in draw_inputs(attention_decode, at, 0).items() if name != "lengths_cpu"}
    sets = [first | {"lengths": first["lengths"].clone()} for _ in range(10)]
    for inputs in sets * 2:
        flashinfer(**inputs, page=16)
    assert planned.planned == len(sets)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "negative": ({"lengths": torch.tensor([-1, 5], dtype=torch.int32)}, r"lengths\[0\] = -1"),
    "too long": ({"lengths": torch.tensor([5, 81], dtype=torch.int32)}, r"lengths\[1\] = 81; a cache of 80 rows"),
    "float lengths": ({"lengths": torch.tensor([5.0, 6.0])}, r"lengths are torch.float32 \(2,\)"),
    "too few": ({"lengths": torch.tensor([5], dtype=torch.int32)}, r"lengths are torch.int32 \(1,\)"),
    "a list": ({"lengths": [5, 6]}, "lengths is a list"),
    "sparse": ({"lengths": torch.tensor([5, 6], dtype=torch.int32).to_sparse()}, "a torch.sparse_coo tensor"),
    "float table": ({"block_table": torch.zeros(2, 5)}, "block_table is torch.float32"),
    "flat table": ({"block_table": torch.zeros(2, dtype=torch.int32)}, r"block_table is torch.int32 \(2,\)"),
    "negative page": ({"block_table": torch.full((2, 5), -1, dtype=torch.int32)}, r"block_table\[0, 0\] = -1"),
    "beyond the pool": ({"block_table": torch.full((2, 5), 99, dtype=torch.int32)}, r"block_table\[0, 0\] = 99"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("served", [pytorch.naive, pytorch.torch_paged], ids=["naive", "torch_paged"])
def test_pages_and_lengths_that_do_not_fit_are_refused(served: Any, name: str) -> None:
    changes, words = WRONG[name]
    inputs = draw_inputs(attention_decode, problem({"page": 16}), 0)
    inputs.pop("lengths_cpu")
    with pytest.raises(UsageError, match=words):
        served(**inputs | changes, page=16)
