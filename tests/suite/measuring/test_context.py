"""What an exception leaves of its process: the device is asked, and nobody innocent pays."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from suite import Operator
from suite.checks.checker import check_case
from suite.discovery import discover
from suite.errors import OracleFailed, PluginError, Unsupported, spoiling
from suite.faults import FAILURES, classify
from suite.measuring import case as measuring_case
from suite.measuring import context
from suite.measuring.case import ProblemRun, Settings
from suite.measuring.context import Spoiled, chain, forget, spoiled
from suite.problem import Case, Problem
from tests.suite.fake_cuda import FakeCuda

# What CUDA and its libraries say of errors after which a context answers nothing else.
STICKY = [
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: operation not supported on global/shared address space",  # 717
    "CUDA error: unspecified launch failure",  # 719
    "CUDA error: unknown error",  # 999
    "CUDA error: the launch timed out and was terminated",  # 702
    "CUDA error: uncorrectable ECC error encountered",  # 214
    "CUDA error: misaligned address",
    "CUDA error: an illegal instruction was encountered",
    "CUDA error: device-side assert triggered",
    "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "Triton Error [CUDA]: an illegal memory access was encountered",
]
OUT_OF_MEMORY = [
    "Triton Error [CUDA]: out of memory",
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "CUDA error: CUSOLVER_STATUS_ALLOC_FAILED",
    "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.",
]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    monkeypatch.setattr(context, "torch", fake)
    return fake


def raised(gpu: FakeCuda, text: str) -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        gpu.fail(text)
    return caught.value


@pytest.mark.parametrize("text", STICKY)
def test_whatever_a_dead_context_says_is_found_by_asking_it(gpu: FakeCuda, text: str) -> None:
    error = raised(gpu, text)
    assert spoiled(error, "cuda") == f"the device answers nothing but errors after it: {text}"
    assert spoiled(error, "cpu") == ""


@pytest.mark.parametrize("text", [*STICKY, *OUT_OF_MEMORY])
def test_the_same_words_spoil_nothing_where_the_device_still_answers(gpu: FakeCuda, text: str) -> None:
    assert spoiled(RuntimeError(text), "cuda") == ""


def test_a_failed_capture_spoils_the_process_although_the_device_answers(gpu: FakeCuda) -> None:
    assert "capture failed" in spoiled(spoiling(Unsupported("it cannot be captured")), "cuda")
    assert spoiled(spoiling(KeyError("no luck")), "cuda")
    assert spoiled(Unsupported("it waits for the device"), "cuda") == ""


def wrapped(error: Exception, *classes: type[Exception]) -> Exception:
    """The error inside others, as the harness and libraries raise them in its place."""
    for each in classes:
        try:
            raise each("something went wrong") from error
        except each as outer:
            error = outer
    return error


@pytest.mark.parametrize("classes", [(OracleFailed,), (PluginError,), (ValueError,), (PluginError, OracleFailed)])
def test_an_error_inside_another_one_is_found(gpu: FakeCuda, classes: tuple[type[Exception], ...]) -> None:
    assert spoiled(wrapped(RuntimeError("all is well"), *classes), "cuda") == ""
    assert "capture failed" in spoiled(wrapped(spoiling(ValueError("in a capture")), *classes), "cpu")
    assert "nothing but errors" in spoiled(wrapped(raised(gpu, STICKY[0]), *classes), "cuda")


def test_frames_of_a_whole_chain_are_let_go() -> None:
    error = wrapped(RuntimeError("inside"), ValueError, OracleFailed)
    forget(error)
    assert [type(each) for each in chain(error)] == [OracleFailed, ValueError, RuntimeError]
    assert all(each.__traceback__ is None for each in chain(error))


class Mute(RuntimeError):
    """An exception of somebody's class, whose text is a mistake."""

    def __str__(self) -> str:
        raise ValueError("mute")


def test_an_exception_that_cannot_be_printed_has_its_status(gpu: FakeCuda) -> None:
    assert classify(Mute()) == ("error", "Mute: its text raises ValueError")
    assert spoiled(Mute(), "cuda") == ""
    assert "Mute" in spoiled(spoiling(Mute()), "cuda")


@pytest.mark.parametrize("text", OUT_OF_MEMORY)
def test_every_way_to_say_that_memory_is_gone_is_oom(text: str) -> None:
    assert classify(RuntimeError(text))[0] == "oom"


@pytest.mark.parametrize("text", ["out of memory of the cache: CUDA is fine", "CUDA error: invalid argument"])
def test_other_words_are_not_oom(text: str) -> None:
    assert classify(RuntimeError(text))[0] == "error"


PROBLEM = Problem(T=32, H=2, K=4, V=4, dtype="float32")
SETTINGS = Settings(device="cpu", device_name="cpu", modes=("warm-cpu",), warmup_ms=0, rep_ms=20)


class Run:
    """A problem of linear attention whose torch forms raise what they are told to, at a call counted from 1."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **failing: tuple[Exception, int]) -> None:
        operator = discover().operator("linear_attention")
        problem = operator.complete(PROBLEM)
        self.records: list[dict[str, Any]] = []
        self.calls: dict[str, int] = {}
        call = measuring_case.Call.run

        def run(one: Any) -> Any:
            name = one.implementation.name
            self.calls[name] = self.calls.get(name, 0) + 1
            error, at = failing.get(name, (None, 0))
            if error is not None and self.calls[name] >= at:
                raise error
            return call(one)

        monkeypatch.setattr(measuring_case.Call, "run", run)
        monkeypatch.setattr(measuring_case, "spoiled", lambda error, device: "gone" if "sticky" in str(error) else "")
        tunables = {"naive": (), "torch_chunk": (("chunk", 16),)}
        cases = [Case(operator.name, name, problem, chosen, operator.axes) for name, chosen in tunables.items()]
        self.run = ProblemRun(operator, problem, cases, SETTINGS, "timed", self.records.append, lambda *_: None)

    def statuses(self) -> Mapping[str, str]:
        assert len({record["implementation"] for record in self.records}) == len(self.records)
        return {record["implementation"]: record["status"] for record in self.records}


# The first call is the check's, the third the first on the timed inputs, later ones warm up and are timed.
@pytest.mark.parametrize("at", [1, 2, 3, 8])
@pytest.mark.parametrize("culprit", ["naive", "torch_chunk"])
def test_who_spoils_the_process_has_its_record_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch, culprit: str, at: int
) -> None:
    run = Run(monkeypatch, **{culprit: (RuntimeError("sticky"), at)})
    with pytest.raises(Spoiled, match="gone"):
        run.run.measure()
    assert run.statuses() == {culprit: "error"}


@pytest.mark.parametrize("at", [1, 2, 3, 8])
def test_an_error_that_spoils_nothing_costs_its_own_record(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    run = Run(monkeypatch, naive=(RuntimeError("a wrong shape"), at))
    run.run.measure()
    assert run.statuses() == {"naive": "error", "torch_chunk": "ok"}


def test_who_spoils_the_process_while_energy_is_measured_is_the_one_that_is_blamed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A device that is asked no more than an energy counter would show it in the next check, of another case."""

    class Meter:
        windows = 0

        def __init__(self, *args: object) -> None:
            pass

        def columns(self, run: object, tokens: int) -> dict[str, Any]:
            Meter.windows += 1
            if Meter.windows == 2:
                raise RuntimeError("sticky")
            return {}

    run = Run(monkeypatch)
    monkeypatch.setattr(measuring_case, "EnergyOf", Meter)
    run.run.settings = replace(SETTINGS, energy_s=2.0)
    with pytest.raises(Spoiled, match="gone"):
        run.run.measure()
    assert run.statuses() == {"torch_chunk": "error"}


@pytest.mark.parametrize("text", OUT_OF_MEMORY[:2])
def test_memory_that_is_gone_in_the_oracle_is_not_the_implementations_fault(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    run = Run(monkeypatch)

    def oracle(*args: object, **kwargs: object) -> None:
        raise RuntimeError(text)

    asked: list[int] = []
    monkeypatch.setattr("suite.checks.checker.reference", lambda *args, **kwargs: asked.append(1) or oracle())
    run.run.measure()
    assert len(asked) == 1, "it fails for all alike, and is not run again for each"
    assert run.statuses() == {"naive": "unchecked", "torch_chunk": "unchecked"}
    assert all(record["reason"] == f"the oracle failed: RuntimeError: {text}" for record in run.records)
    assert "unchecked" in FAILURES


def test_modes_that_have_a_record_are_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch)
    found: list[dict[str, Any]] = []
    settings = Settings(device="cpu", device_name="cpu", modes=("warm-cpu", "other"), warmup_ms=0, rep_ms=20)
    timed: list[tuple[str, int]] = []
    monkeypatch.setattr(ProblemRun, "_time", lambda self, ready, mode: timed.append((mode, len(ready))) or [])
    cases = [one.case for one in run.run.live]
    modes = [("warm-cpu", "other"), ("other",)]
    ProblemRun(
        run.run.operator, run.run.problem, cases, settings, "timed", found.append, lambda *_: None, modes=modes
    ).measure()
    assert timed == [("warm-cpu", 1), ("other", 2)]


def _without_graph(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **more: Any) -> tuple[torch.Tensor, None]:
    return discover().operator("linear_attention").oracle(q=q.detach(), k=k.detach(), v=v.detach(), **more)


def _without_finite_gradients(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **more: Any) -> Any:
    o, state = discover().operator("linear_attention").oracle(q=q, k=k, v=v, **more)
    # The derivative of sqrt at 0 is infinite, and its value is 0.
    return o + (q.sum() * 0).sqrt(), state


@pytest.mark.parametrize(
    ("oracle", "words"), [(_without_graph, "without a graph"), (_without_finite_gradients, "whose dq is finite")]
)
def test_an_oracle_without_gradients_checks_nothing(oracle: Any, words: str) -> None:
    right = discover().operator("linear_attention")
    said = {each.name: getattr(right, each.name) for each in fields(right) if each.init}
    wrong = Operator(**said | {"oracle": oracle, "stateful": False, "name": f"wrong{oracle.__name__}"})
    wrong.implementation("naive", origin="baseline")(right.implementations["naive"].fn)
    found = check_case(wrong, "naive", PROBLEM.replace(pass_="fwdbwd"))
    assert (found.status, words in found.reason) == ("unchecked", True), found.reason


@pytest.mark.parametrize("kind", ["timed", "check"])
def test_inputs_that_cannot_be_drawn_cost_one_record_a_case(kind: str) -> None:
    """Also of a case that would have been unsupported."""

    def inputs(problem: Problem, generator: torch.Generator) -> dict[str, torch.Tensor]:
        raise ValueError("no draw")

    right = discover().operator("linear_attention")
    said = {each.name: getattr(right, each.name) for each in fields(right) if each.init}
    made = Operator(**{**said, "inputs": inputs})
    naive = right.implementations["naive"].fn
    made.implementation("able", origin="ours", passes={"fwd"})(naive)
    made.implementation("refuses", origin="ours", passes={"fwd"}, supports=lambda p, tunables: "not today")(naive)
    problem = made.complete(Problem(T=8, K=4, dtype="fp32", pass_="fwd"))
    cases = [Case(made.name, name, problem, (), made.axes) for name in ("able", "refuses")]
    found: list[dict[str, Any]] = []
    run = ProblemRun(made, problem, cases, SETTINGS, kind, found.append, lambda *_: None)
    run.measure() if kind == "timed" else run.check()
    assert [record["implementation"] for record in found] == ["able", "refuses"]
    assert {record["status"] for record in found} == {"error"}
    assert all("no draw" in record["reason"] for record in found)
