"""Which GPUs a process may choose from, by CUDA's own rules."""

from __future__ import annotations

from argparse import Namespace

import pytest
import torch

from suite.cli.sweeping import gpu_variables
from suite.errors import UsageError
from suite.hardware.gpus import visible_gpus

A, B, MIG = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-77", "MIG-5b2f"


@pytest.mark.parametrize(
    ("named", "count", "names"),
    [
        (None, 3, ["0", "1", "2"]),
        (None, 0, []),
        ("", 0, []),
        ("1,-1,0", 1, ["1"]),
        ("-1", 0, []),
        ("2,0", 2, ["2", "0"]),
        (" 2 , 0 ", 2, ["2", "0"]),
        ("0,,1", 1, ["0"]),
        ("0,9,1", 1, ["0"]),
        ("0,none", 1, ["0"]),
        ("none", 0, []),
        ("0,0", 0, []),
        ("0,00", 0, []),
        ("1x,0", 2, ["1", "0"]),
        (f"{A},{B}", 2, [A, B]),
        (f"{A},1", 1, [A]),
        (f"1,{A}", 1, ["1"]),
        (f"{A},{A}", 0, []),
        (f"{MIG}", 1, [MIG]),
        (f"{MIG},{A}", 1, [MIG]),
        # What torch sees bounds all: CUDA takes one MIG instance and no more.
        (f"{MIG},{MIG}2", 1, [MIG]),
    ],
)
def test_what_is_visible(named: str | None, count: int, names: list[str]) -> None:
    assert visible_gpus(named, count) == names


@pytest.mark.parametrize(
    ("named", "gpu", "chosen"),
    [(None, 1, "1"), ("1,-1,0", 0, "1"), ("3, 2", 1, "2"), (f"{A},{B}", 1, B)],
)
def test_a_gpu_is_chosen_among_the_visible(
    named: str | None, gpu: int, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    see(monkeypatch, named, 2)
    args = Namespace(gpu=gpu, lock_clocks=None)
    assert gpu_variables(args, "cuda") == {"CUDA_VISIBLE_DEVICES": chosen}


@pytest.mark.parametrize(
    ("named", "count", "gpu"), [("1,-1,0", 1, 2), ("1,-1,0", 1, 1), ("0,0", 0, 0), (None, 2, 2), (None, 2, -1)]
)
def test_a_gpu_that_cuda_hides_is_refused(
    named: str | None, count: int, gpu: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    see(monkeypatch, named, count)
    with pytest.raises(UsageError) as caught:
        gpu_variables(Namespace(gpu=gpu, lock_clocks=None), "cuda")
    told = str(caught.value)
    assert told.startswith(f"--gpu {gpu}: {count} GPU(s) are visible")
    assert (repr(named) in told) == (named is not None)


def see(monkeypatch: pytest.MonkeyPatch, named: str | None, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    if named is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
