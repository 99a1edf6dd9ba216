"""The profile of one implementation on one problem: its host code on meta tensors, its launches compiled and read.

Example::

    with pretending(target_of("sm_90")):
        profile(operator, implementation, problem, {"chunk": 64}, "sm_90").columns()["static.launches"]   # 2
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from suite.checks.calling import Call
from suite.checks.inputs import PACKING, Inputs, draw_inputs
from suite.errors import CacheError
from suite.faults import classify
from suite.hardware.assemblers import version_for
from suite.problem import Case, Problem, Value
from suite.registry import Implementation, Operator
from suite.static.allocation_tracker import AllocationTracker
from suite.static.capturing import Recorder
from suite.static.floor import ceilings_of, floor_of, forced_bytes
from suite.static.model import Floor, Launch, Profile
from suite.static.probe_shape import lengths, shrunk, small
from suite.static.stub_driver import pretending, target_of
from suite.static.timing.machines import machine_for
from suite.targets import Target, aim

# What torch says when host code asks a meta tensor for a value.
_VALUES = ("meta tensor", "'Meta' backend", "Meta tensors", "data-dependent")
_SEVERITY = ("compile_error", "over_limit")


def profile(
    operator: Operator,
    implementation: Implementation,
    problem: Problem,
    tunables: Mapping[str, Value],
    arch: str,
    *,
    gpu: str = "",
    all_configs: bool = False,
    counted: bool = True,
    explained: bool = False,
) -> Profile:
    """Profile one case in this process, which must use neither a GPU nor the interpreter.

    counted:   whether to look for the T at which issued traffic can be counted, Profile.counted_T, and for the ways
               between which data decide, Launch.fork
    explained: whether each launch says why it takes its predicted time
    What cannot be captured is `unsupported` with the reason; a launch that does not compile or exceeds a limit decides
    the status. A peer must have been imported inside `pretending` for the same architecture.
    """
    target = target_of(arch, gpu)
    case = Case(operator.name, implementation.name, problem, tuple(tunables.items()), operator.axes)
    cost = operator.cost_of(problem, implementation, tunables)
    start = Profile(
        case.case_id,
        arch,
        flops_alg=cost.flops_alg,
        flops_exec=cost.flops_exec,
        special=cost.special,
        bytes_compulsory=cost.bytes_compulsory,
        io_bound_bytes=operator.bound_of(problem, target.on_chip_bytes),
        pass_=problem.pass_,
        ptxas=version_for(target.capability) or "",
    )
    with aim(target):
        reason = _refused(operator, implementation, problem, tunables)
    if reason:
        return replace(start, status="unsupported", reason=reason)
    with pretending(target):
        recorder = Recorder(target, all_configs=all_configs, explains=explained, forks=counted)
        try:
            returned, kept = _run(operator, implementation, problem, tunables, recorder)
        except CacheError:
            raise
        except Exception as error:
            status, reason = meaning(error, implementation)
            return replace(start, status=status, reason=reason)
        filled = _filled(replace(start, kept_bytes=kept), recorder, returned, problem, target)
        if not counted or not filled.launches:
            return filled
        return replace(filled, counted_T=_counted_T(operator, implementation, problem, tunables, recorder))


def meta_inputs(operator: Operator, problem: Problem) -> Inputs:
    """The operator's inputs as meta tensors of the same shapes and dtypes; nothing is drawn, nothing allocated.

    `cu_seqlens_cpu` stays a real tensor on the CPU.
    """
    with FakeTensorMode():
        drawn = draw_inputs(operator, problem, seed=0, device="cpu")
    inputs = {
        name: tuple(map(_meta, value)) if isinstance(value, tuple) else _meta(value)
        for name, value in drawn.items()
        if name not in PACKING
    }
    if problem.cu_seqlens is not None:
        cpu = torch.tensor(problem.cu_seqlens, dtype=torch.int32)
        inputs |= {"cu_seqlens": cpu.to("meta"), "cu_seqlens_cpu": cpu}
    return inputs


def _meta(x: torch.Tensor) -> torch.Tensor:
    # The offset too: a view may be less aligned than what it is a view of.
    whole = torch.empty(x.untyped_storage().nbytes() // x.element_size(), dtype=x.dtype, device="meta")
    return whole.as_strided(x.shape, x.stride(), x.storage_offset()).requires_grad_(x.requires_grad)


def _refused(
    operator: Operator, implementation: Implementation, problem: Problem, tunables: Mapping[str, Value]
) -> str | None:
    if "cuda" not in implementation.devices:
        return f"{implementation.name} does not run on a GPU"
    return implementation.unsupported(problem, tunables, operator.axes)


def _run(
    operator: Operator,
    implementation: Implementation,
    problem: Problem,
    tunables: Mapping[str, Value],
    recorder: Recorder,
) -> tuple[set[int], int]:
    """Run one call under the recorder: the numbers of the storages that it returned, and Profile.kept_bytes."""
    inputs = meta_inputs(operator, problem)
    if problem.cu_seqlens is not None:
        recorder.knows(inputs["cu_seqlens"], inputs["cu_seqlens_cpu"])
    call = Call(operator, implementation, problem, tunables, inputs)
    with recorder.muted(), AllocationTracker() as before:
        call.prepare()
    kept = before.memory.live - _own_bytes(before, [*call.built.values(), *(call.cotangents or {}).values()])
    # When the collector runs is chance; with it off, what is live at the peak is the host code's doing alone.
    if recorder.compiled:
        gc.collect()
    gc.disable()
    try:
        with recorder:
            outputs = call.run()
            return {recorder.ledger.number(x) for x in outputs.values()}, kept
    finally:
        gc.enable()


def _own_bytes(tracker: AllocationTracker, tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of the distinct storages of these tensors, of those that were allocated under the tracker."""
    numbers = {tracker.number(x) for x in tensors} - tracker.outside
    return sum(tracker.sizes[number] for number in numbers)


def _counted_T(
    operator: Operator,
    implementation: Implementation,
    problem: Problem,
    tunables: Mapping[str, Value],
    recorder: Recorder,
) -> int:
    """The shortest T at which the small problem launches the kernels of the whole one, or 0 without any."""
    kernels = {launch.kernel for launch in recorder.launches}
    for T in lengths(problem, tunables):
        counted = small(problem, T)
        target = shrunk(recorder.target, problem, counted)
        trial = Recorder(target, compiled=False)
        if implementation.unsupported(counted, tunables, operator.axes):
            continue
        with aim(target):
            _run(operator, implementation, counted, tunables, trial)
        if {launch.kernel for launch in trial.launches} == kernels:
            return T
    return 0


def meaning(error: Exception, implementation: Implementation) -> tuple[str, str]:
    """Status and reason of a case whose host code raised on meta tensors."""
    status, reason = classify(error, implementation)
    if status == "error" and any(words in str(error) for words in _VALUES):
        return "unsupported", f"host code depends on tensor values, which meta tensors do not have: {reason}"
    if status == "error" and implementation.origin == "peer":
        return "unsupported", f"cannot be captured: {reason}"
    return status, reason


def _filled(start: Profile, recorder: Recorder, returned: set[int], problem: Problem, target: Target) -> Profile:
    if not recorder.launches:
        return replace(start, status="unsupported", reason="launches no Triton kernel")
    ledger = recorder.ledger
    status, reason = worst_launch(recorder.launches)
    own = sum(ledger.sizes[number] for number in returned - ledger.outside)
    return replace(
        start,
        status=status,
        reason=reason,
        launches=tuple(recorder.launches),
        candidates=tuple(recorder.candidates),
        eager_bytes=ledger.eager_bytes,
        eager_ops=ledger.eager_ops,
        eager_ms=_eager_ms(ledger.eager_bytes, ledger.eager_ops, target),
        intermediate_bytes=ledger.memory.total - own,
        peak_bytes=ledger.memory.peak,
        floor=_floor(start, recorder, returned, problem, target),
    )


def _eager_ms(bytes_: int, operations: int, target: Target) -> float:
    """What eager operations take on the target: each is a launch that moves its bytes. 0 without a machine table."""
    machine = machine_for(target)
    return machine.launch_us * operations / 1e3 + bytes_ / machine.dram_gbs / 1e6 if machine else 0.0


def worst_launch(launches: list[Launch]) -> tuple[str, str]:
    """Status and reason of a case: those of its first launch that does not compile, else over a limit, else ok."""
    for status in _SEVERITY:
        for launch in launches:
            if launch.status == status:
                return status, f"{launch.kernel}: {launch.reason}"
    return "ok", ""


def _floor(start: Profile, recorder: Recorder, returned: set[int], problem: Problem, target: Target) -> Floor | None:
    ceilings = ceilings_of(target.name)
    if ceilings is None:
        return None
    ledger, launches = recorder.ledger, recorder.launches
    # Compulsory bytes know what a launch's arguments do not: which tensors are read and written.
    forced = forced_bytes(ledger.touches, returned | ledger.outside, ledger.sizes, target.l2_bytes)
    return floor_of(
        ceilings,
        forced=max(forced, int(start.bytes_compulsory)),
        traffic=sum(launch.traffic_bytes for launch in launches) + ledger.eager_bytes,
        flops=start.flops_exec,
        special=start.special,
        dtype=problem.dtype,
        tensor_cores=any(launch.binary and launch.binary.tensor_path != "none" for launch in launches),
    )
