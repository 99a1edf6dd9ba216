"""What cu_seqlens may say: everything else is refused before a kernel is launched, with its entry named."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kernels.common.packed import Packing, packing
from suite.errors import UsageError
from tests.kernels.common.packed_calls import STATEFUL, STATELESS, registered, small

TOKENS = torch.empty(1, 40)
ROWS = torch.empty(2, 20)
META = torch.empty(1, 40, device="meta")
HALVES = torch.tensor([0, 20, 40])


def tensor(*values: float, dtype: torch.dtype = torch.int32) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype)


# cu_seqlens, its copy on the CPU, the message.
BAD: dict[str, tuple[Any, Any, str]] = {
    "ends_before_T": (tensor(0, 17, 33), None, "cu_seqlens ends at 33, T is 40; it must end at T"),
    "ends_beyond_T": (tensor(0, 20, 48), None, "cu_seqlens ends at 48, T is 40; it must end at T"),
    "begins_late": (tensor(3, 20, 40), None, "cu_seqlens begins at 3; it must begin at 0"),
    "begins_below_0": (tensor(-1, 20, 40), None, "cu_seqlens begins at -1; it must begin at 0"),
    "decreases": (
        tensor(0, 20, 17, 40),
        None,
        "cu_seqlens[2] = 17 is below cu_seqlens[1] = 20; it must not decrease",
    ),
    "lengths": (tensor(0, 20, 20), None, "cu_seqlens ends at 20, T is 40; it must end at T"),
    "float": (HALVES.float(), None, "cu_seqlens is torch.float32; it must be int32 or int64"),
    "bool": (tensor(0, 1, 1, dtype=torch.bool), None, "cu_seqlens is torch.bool; it must be int32 or int64"),
    "short": (HALVES.short(), None, "cu_seqlens is torch.int16; it must be int32 or int64"),
    "no_sequence": (tensor(0), None, "cu_seqlens has the shape (1,); it must be (N + 1,), with N >= 1 sequences"),
    "nothing": (HALVES[:0], None, "cu_seqlens has the shape (0,); it must be (N + 1,), with N >= 1 sequences"),
    "two_dimensions": (
        HALVES[None],
        None,
        "cu_seqlens has the shape (1, 3); it must be (N + 1,), with N >= 1 sequences",
    ),
    "number": (torch.tensor(40), None, "cu_seqlens has the shape (); it must be (N + 1,), with N >= 1 sequences"),
    "list": ([0, 20, 40], None, "cu_seqlens is a list; it must be a tensor"),
    "strided": (
        tensor(0, 9, 20, 9, 40)[::2],
        None,
        "cu_seqlens is not contiguous, and kernels read it as it lies; pass cu_seqlens.contiguous()",
    ),
    "copy_of_another_shape": (HALVES, tensor(0, 40), "cu_seqlens_cpu has 2 entries, cu_seqlens has 3; pass a copy"),
    "copy_with_other_values": (
        HALVES,
        tensor(0, 17, 40),
        "cu_seqlens_cpu[1] = 17, cu_seqlens[1] = 20; pass a copy",
    ),
    "copy_of_floats": (HALVES, HALVES.float(), "cu_seqlens_cpu is torch.float32; it must be int32 or int64"),
    "copy_in_a_list": (HALVES, [0, 20, 40], "cu_seqlens_cpu is a list; it must be a tensor"),
    "sparse": (HALVES.to_sparse(), None, "cu_seqlens has the layout torch.sparse_coo; pass cu_seqlens.to_dense()"),
    "copy_that_is_sparse": (
        HALVES,
        HALVES.to_sparse(),
        "cu_seqlens_cpu has the layout torch.sparse_coo; pass cu_seqlens_cpu.to_dense()",
    ),
    "copy_elsewhere": (
        HALVES,
        HALVES.to("meta"),
        "cu_seqlens_cpu is on meta; pass a copy of cu_seqlens on the CPU",
    ),
    "no_copy": (HALVES.to("meta"), None, "cu_seqlens came without its copy on the CPU; pass cu_seqlens_cpu too"),
    "copy_alone": (None, HALVES, "cu_seqlens_cpu came without cu_seqlens; pass both, or neither"),
    "another_device": (HALVES.to("meta"), HALVES, "cu_seqlens is on meta, the tokens on cpu; move it there"),
}


def refusal(fn: Any, *args: Any, **words: Any) -> str:
    """The message of the UsageError that a call raises."""
    with pytest.raises(UsageError) as raised:
        fn(*args, **words)
    return str(raised.value)


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_served_is_named(name: str) -> None:
    cu_seqlens, copy, message = BAD[name]
    assert refusal(packing, cu_seqlens, copy, TOKENS) == message


def test_sequences_lie_in_one_row() -> None:
    assert refusal(packing, HALVES, None, ROWS) == "cu_seqlens came with B = 2; pack all sequences into one row"


def test_a_device_s_values_are_read_from_the_copy() -> None:
    assert packing(HALVES.to("meta"), HALVES, META) == Packing(2, 20, some_empty=False)
    message = refusal(packing, HALVES.to("meta"), tensor(0, 20, 41), META)
    assert message == "cu_seqlens ends at 41, T is 40; it must end at T"


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_sequences_their_longest_and_whether_one_is_empty(dtype: torch.dtype) -> None:
    def found(*values: int, like: torch.Tensor = TOKENS) -> Packing:
        bounds = tensor(*values, dtype=dtype)
        assert packing(bounds, bounds.clone().int(), like) == packing(bounds, None, like)
        return packing(bounds, None, like)

    assert found(0, 40) == Packing(1, 40, some_empty=False)
    assert found(0, 1, 17, 40) == Packing(3, 23, some_empty=False)
    assert found(0, 0, 17, 40) == Packing(3, 23, some_empty=True)
    assert found(0, 17, 40, 40) == Packing(3, 23, some_empty=True)
    assert found(0, 0, 0, like=TOKENS[:, :0]) == Packing(2, 1, some_empty=True)


def test_rows_are_sequences_without_cu_seqlens() -> None:
    assert packing(None, None, ROWS) == Packing(2, 20, some_empty=False)
    assert packing(None, None, ROWS[:, :0]) == Packing(2, 1, some_empty=True)
    assert packing(None, None, ROWS[:0]) == Packing(0, 20, some_empty=False)


def test_every_implementation_that_takes_packed_sequences_is_tested() -> None:
    assert set(registered()) == {*STATEFUL, *STATELESS}


@pytest.mark.parametrize("name", [*STATEFUL, *STATELESS])
def test_every_implementation_refuses_it_before_a_launch(name: str) -> None:
    _, made = registered()[name]
    _, inputs = small(name)
    for cu_seqlens, copy, message in BAD.values():
        assert refusal(made.fn, **{**inputs, "cu_seqlens": cu_seqlens, "cu_seqlens_cpu": copy}) == message
    rows = {
        each: torch.cat([x, x]) if isinstance(x, torch.Tensor) and x.ndim > 2 and x.shape[:2] == (1, 40) else x
        for each, x in inputs.items()
    }
    assert "B = 2" in refusal(made.fn, **rows)
