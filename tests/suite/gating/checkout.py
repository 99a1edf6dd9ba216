"""A small checkout to gate: the suite as it is, one operator, and git beneath."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from suite.discovery import ROOT

# An operator whose implementations run alike, so that slowing one down touches no other.
SPEC = '''
"""The running mean."""

import torch

from suite import Cost, Operator
from suite.draw import qkv


def mean(q, k, v):
    return v.cumsum(1) / torch.arange(1, v.shape[1] + 1, device=v.device)[:, None, None].to(v), None


running_mean = Operator(
    "running_mean", "o_t = mean of v_1..v_t", "none", qkv, mean, tags=("linear", "quadratic"),
    cost=lambda p, tunables: Cost(2 * p.tokens * p.HV * p.V, 2 * p.tokens * p.HV * p.V, 8 * p.tokens * p.HV * p.V),
    passes=("fwd",), stateful=False,
)
'''
IMPLEMENTATION = '''
"""{name}: the mean, computed over and over."""

from kernels.running_mean.spec import mean, running_mean

REPEAT = 20


@running_mean.implementation("{name}", origin="baseline", passes={{"fwd"}})
def {name}(q, k, v):
    for _ in range(REPEAT):
        found = mean(q, k, v)
    return found
'''


def make_checkout(folder: Path, names: tuple[str, ...] = ("one", "two", "three")) -> Path:
    """A committed checkout with an implementation of `running_mean` of each name, in a module of its own."""
    shutil.copytree(ROOT / "suite", folder / "suite", ignore=shutil.ignore_patterns("__pycache__"))
    write(folder, "kernels/__init__.py", "")
    write(folder, "baselines/__init__.py", "")
    write(folder, "kernels/running_mean/__init__.py", "")
    write(folder, "kernels/running_mean/spec.py", SPEC)
    for name in names:
        write(folder, f"baselines/{name}.py", IMPLEMENTATION.format(name=name))
    git(folder, "init", "-q", "-b", "main")
    commit(folder)
    return folder


def write(folder: Path, path: str, text: str) -> None:
    """Write a file of a checkout."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def edit(folder: Path, path: str, old: str, new: str) -> None:
    """Replace text in a file of a checkout; the text must be there."""
    text = (folder / path).read_text()
    assert old in text
    (folder / path).write_text(text.replace(old, new))


def commit(folder: Path) -> None:
    """Commit everything."""
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-q", "-m", "as it is")


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True)


def subquad(folder: Path, *words: str, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
    """Run a command of the checkout's own suite on one core, where threads never wait for each other."""
    core = sorted(os.sched_getaffinity(0))[-1]
    return subprocess.run(
        [sys.executable, "-m", "suite", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )


DOUBLE = '''
"""o = 2 v, as a matrix product: a kernel with a large tile."""

import torch
import triton
import triton.language as tl

from suite import Cost, Operator
from suite.draw import qkv

double = Operator(
    "double", "o = 2 v", "none", qkv, lambda q, k, v: (v + v, None), tags=("linear", "quadratic"),
    cost=lambda p, tunables: Cost(p.tokens * p.HV * p.V, 2 * p.tokens * p.HV * p.V**2, 4 * p.tokens * p.HV * p.V),
    passes=("fwd",), stateful=False,
)
WARPS = 8


@triton.jit
def double_kernel(v, o, ROWS, M: tl.constexpr, V: tl.constexpr):
    i, j = tl.program_id(0) * M + tl.arange(0, M), tl.arange(0, V)
    at, inside = i[:, None] * V + j[None, :], i[:, None] < ROWS
    twice = tl.where(j[:, None] == j[None, :], 2.0, 0.0).to(v.dtype.element_ty)
    product = tl.dot(tl.load(v + at, mask=inside, other=0.0), twice, input_precision="ieee")
    tl.store(o + at, product.to(o.dtype.element_ty), mask=inside)


@double.implementation("triton", origin="ours", devices={"cuda", "interpret"}, passes={"fwd"})
def double_triton(q, k, v):
    o = torch.empty_like(v)
    rows = v.numel() // v.shape[-1]
    double_kernel[(triton.cdiv(rows, 128),)](v, o, rows, 128, v.shape[-1], num_warps=WARPS)
    return o, None
'''
