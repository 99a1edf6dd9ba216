"""What an implementation changes for the whole process: put back for all that follow, and told in its own record."""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from suite.discovery import discover
from suite.measuring import leftovers
from suite.measuring.case import ProblemRun, Settings
from suite.measuring.leftovers import Leftovers, of_cuda, parts
from suite.problem import Case, Problem
from tests.suite.fake_cuda import FakeCuda
from tests.suite.plugins import RUNNING_MEAN, write

SETTINGS = Settings("cpu", "cpu", ("warm-cpu",), warmup_ms=0.0, rep_ms=1.0)
PROBLEM = Problem(T=8, H=1, K=4, V=4, dtype="float32")

# What one call of an implementation does, and how its record tells it.
CHANGES = {
    "threads": ("torch.set_num_threads(7)", "number of threads: 1 -> 7"),
    "default_dtype": ("torch.set_default_dtype(torch.float64)", "default dtype: torch.float32 -> torch.float64"),
    "default_device": ("torch.set_default_device('meta')", "default device: cpu -> meta"),
    "deterministic": ("torch.use_deterministic_algorithms(True, warn_only=True)", "deterministic algorithms: "),
    "precision": ("torch.set_float32_matmul_precision('medium')", "float32 matmul precision: highest -> medium"),
    "new_precision": ("torch.backends.fp32_precision = 'tf32'", "float32 precision of generic all: none -> tf32"),
    "reduced": (
        "torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False",
        "matmul.allow_bf16_reduced_precision_reduction: True -> False",
    ),
    "cudnn": ("torch.backends.cudnn.benchmark = True", "cudnn.benchmark: False -> True"),
    "attention": ("torch.backends.cuda.enable_flash_sdp(False)", "flash attention: True -> False"),
    "anomaly": ("torch.autograd.set_detect_anomaly(True)", "anomaly detection: "),
    "autocast": ("torch.autocast('cpu').__enter__()", "autocast on cpu: (False, torch.bfloat16) -> (True, "),
    "inference": ("HOLD.append(torch._C._InferenceMode(True))", "inference mode: False -> True"),
    "mode": ("Watching().__enter__()", "torch dispatch modes: 0 -> "),
    "denormals": ("torch.set_flush_denormal(True)", "flushing of denormals: False -> True"),
    "variable": ("os.environ['SUBQUAD_TEST_LEFT'] = 'x'", "environment variable SUBQUAD_TEST_LEFT: set"),
    "changed_variable": ("os.environ['HOME'] = '/nowhere'", "environment variable HOME: changed"),
    "removed_variable": ("os.environ.pop('HOME', None)", "environment variable HOME: removed"),
    "filters": ("warnings.simplefilter('error')", "warnings filters: changed"),
    "affinity": ("os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})", "CPU affinity: {"),
    "folder": ("os.chdir('/')", "working directory: "),
    "alarm": ("signal.setitimer(signal.ITIMER_VIRTUAL, 1e6)", "timer 1: changed"),
    "handler": ("signal.signal(signal.SIGUSR1, signal.SIG_IGN)", "handler of SIGUSR1: changed"),
    "profile": ("sys.setprofile(lambda *_: None)", "sys.setprofile: changed"),
    "collector": ("gc.enable()", "garbage collector: False -> True"),
    "thresholds": ("gc.set_threshold(1, 1, 1)", "garbage collector's thresholds: "),
    "recursion": ("sys.setrecursionlimit(5_000)", "recursion limit: "),
    "interval": ("sys.setswitchinterval(1.0)", "switch interval: "),
    "limit": ("resource.setrlimit(resource.RLIMIT_AS, LIMIT)", "RLIMIT_AS: "),
    "clock": ("time.perf_counter_ns = lambda: 0", "time.perf_counter_ns: changed"),
    "mask": ("os.umask(0o777)", "mask of new files: "),
    "blocked": ("signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})", "blocked signals: "),
    "callbacks": ("gc.callbacks.append(lambda *_: None)", "gc.callbacks: changed"),
    "numpy_errors": ("numpy.seterr(all='raise')", "numpy's handling of errors: "),
    "mkldnn": ("torch._C._set_mkldnn_enabled(False)", "mkldnn: True -> False"),
    "function": ("torch.cumprod = torch.cumsum", "torch's cumprod: changed"),
    "method": ("torch.Tensor.cumprod = torch.Tensor.cumsum", "torch's cumprod: changed"),
    "softmax": ("torch.nn.functional.softmax = None", "torch's softmax: changed"),
    "stdout": ("sys.stdout = None", "sys.stdout: changed"),
    "flags": (
        "torch.backends.cuda.matmul.fp32_precision = 'tf32'; torch.backends.cudnn.conv.fp32_precision = 'ieee'",
        "float32 precision of cuda matmul: ",
    ),
}
if os.geteuid() == 0:
    # Nobody else may put it back.
    CHANGES["nice"] = ("os.nice(1)", "niceness: ")
IMPORTS = """
import gc, numpy, os, resource, signal, sys, time, warnings
from torch.utils._python_dispatch import TorchDispatchMode
LIMIT = (1 << 45, resource.getrlimit(resource.RLIMIT_AS)[1])
HOLD = []

class Watching(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))
"""


def plugin() -> str:
    text = RUNNING_MEAN + IMPORTS
    for name, (code, _) in CHANGES.items():
        text += f"\n@running_mean.implementation('{name}', origin='ours', passes={{'fwd'}})\n"
        text += f"def {name}(q, k, v):\n    o = mean(q, k, v)\n    {code}\n    return o\n"
    return text


def measured(path: Path, kind: str = "timed") -> dict[str, dict[str, Any]]:
    operator = discover(load=[path]).operator("running_mean")
    problem, found = operator.complete(PROBLEM), []
    cases = [Case(operator.name, name, problem, (), operator.axes) for name in operator.implementations]
    run = ProblemRun(operator, problem, cases, SETTINGS, kind, found.append, lambda *_: None)
    run.measure() if kind == "timed" else run.check()
    return {record["implementation"]: json.loads(json.dumps(record, allow_nan=False)) for record in found}


def state() -> list[str]:
    """What the process is like, in words: states of random numbers are not told, and the collector is as it is."""
    return [f"{part.name}: {part.now()}" for part in parts("cpu")]


@pytest.fixture
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", ["timed", "check"])
def test_what_one_implementation_changes_is_put_back_and_told(tmp_path: Path, kind: str, one_thread: None) -> None:
    path = write(tmp_path, plugin(), f"leaving_{kind}.py")
    discover()
    # Imports torch's compiler, which brings filters and variables of its own.
    torch.use_deterministic_algorithms(False)
    before, variables = state(), dict(os.environ)
    clock, out = time.perf_counter_ns, sys.stdout
    found = measured(path, kind)
    assert state() == before
    assert dict(os.environ) == variables
    assert (time.perf_counter_ns, sys.stdout) == (clock, out)
    assert found.pop("torch").get("left_behind") is None
    assert set(found) == set(CHANGES)
    for name, (_, words) in CHANGES.items():
        told = found[name].get("left_behind") or []
        if name == "affinity" and len(os.sched_getaffinity(0)) == 1:
            continue
        assert any(each.startswith(words) for each in told), (name, told)
        assert (found[name]["status"], found[name]["reason"]) == ("ok", ""), name


@pytest.mark.long
def test_every_case_is_timed_in_the_same_state(tmp_path: Path, one_thread: None) -> None:
    """An implementation says of each of its calls in what state it was; others change all of it before it."""
    text = plugin() + (
        "\n@running_mean.implementation('sees', origin='ours', passes={'fwd'})\ndef sees(q, k, v):\n"
        "    HOLD.append((torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), os.getcwd(),\n"
        "        gc.isenabled(), torch.get_float32_matmul_precision(), os.environ.get('SUBQUAD_TEST_LEFT'),\n"
        "        torch.is_autocast_enabled('cpu'), sys.getswitchinterval()))\n"
        "    return mean(q, k, v)\n"
    )
    path = write(tmp_path, text, "seeing.py")
    operator = discover(load=[path]).operator("running_mean")
    hold = operator.implementations["sees"].fn.__globals__["HOLD"]
    problem = operator.complete(PROBLEM)
    cases = [Case(operator.name, name, problem, (), operator.axes) for name in operator.implementations]
    ProblemRun(operator, problem, cases, SETTINGS, "timed", lambda _: None, lambda *_: None).measure()
    seen = {each for each in hold if type(each) is tuple}
    # One state in check, warm-up, timing and recheck: by none of it can code tell them apart.
    assert len(seen) == 1, seen
    assert next(iter(seen))[:2] == (1, torch.float32)
    assert next(iter(seen))[4] is False, "the collector is off whenever its code runs"


def test_what_a_lazy_import_sets_stays_for_whoever_shares_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = "import os, warnings\nos.environ['SUBQUAD_TEST_LIBRARY'] = 'here'\n"
    library += "warnings.simplefilter('ignore', BytesWarning)\n"
    (tmp_path / "lazily_imported.py").write_text(library)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SUBQUAD_TEST_LIBRARY", "x")
    monkeypatch.delenv("SUBQUAD_TEST_LIBRARY")
    text = RUNNING_MEAN + "import os\n"
    for name in ("first", "second"):
        text += f"\n@running_mean.implementation('{name}', origin='ours', passes={{'fwd'}})\ndef {name}(q, k, v):\n"
        text += "    import lazily_imported\n    assert os.environ['SUBQUAD_TEST_LIBRARY'] == 'here'\n"
        text += "    return mean(q, k, v)\n"
    found = measured(write(tmp_path, text, "importing.py"))
    assert {name: record["status"] for name, record in found.items()} == dict.fromkeys(found, "ok")
    assert found["first"]["left_behind"] == ["environment variable SUBQUAD_TEST_LIBRARY: set"]
    assert found["second"].get("left_behind") is None


def test_random_numbers_go_on_as_if_nobody_had_drawn_any() -> None:
    import random

    import numpy as np

    left = Leftovers("cpu")
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    expected = torch.rand(1).item(), random.random(), np.random.rand()
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    with left.put_back():
        torch.rand(5), random.random(), np.random.rand(5), torch.manual_seed(9)
    assert (torch.rand(1).item(), random.random(), np.random.rand()) == expected
    assert left.told() == []


def test_what_is_taken_away_is_there_again() -> None:
    left, sleep = Leftovers("cpu"), time.sleep
    with left.put_back():
        del time.sleep
    assert time.sleep is sleep


def test_what_cannot_be_put_back_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_write", lambda part, old: None)
    before = torch.get_default_dtype()
    left = Leftovers("cpu")
    with left.put_back():
        torch.set_default_dtype(torch.float64)
    torch.set_default_dtype(before)
    assert left.told() == ["default dtype: torch.float32 -> torch.float64, which only a fresh process undoes"]


def test_what_raises_is_put_back_too() -> None:
    left, before = Leftovers("cpu"), torch.get_default_dtype()
    collects = gc.isenabled()

    def raise_late() -> None:
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck"), left.put_back():
        raise_late()
    assert (torch.get_default_dtype(), torch.is_grad_enabled(), gc.isenabled()) == (before, True, collects)
    assert left.told() == ["default dtype: torch.float32 -> torch.float64", "grad mode: True -> False"]


def test_a_devices_stream_and_number_are_put_back() -> None:
    fake = FakeCuda()
    other = fake.cuda.Stream()
    found = {part.name: part for part in of_cuda(fake.cuda)}
    before = {name: part.now() for name, part in found.items()}
    fake.cuda.set_stream(other)
    fake.cuda.set_device(3)
    fake.cuda.set_sync_debug_mode("error")
    for name, part in found.items():
        assert part.now() != before[name], name
        assert part.write is not None
        part.write(before[name])
        assert part.now() == before[name], name
