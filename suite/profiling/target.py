"""The process that is profiled: builds one case, warms it up, and calls it under a profiler.

    python -m suite.profiling.target FOLDER

reads FOLDER/request.json and leaves FOLDER/result.json, {status, reason, device}, beside what the profiler writes.
Under ncu only the one call after the warm-up is inside the profiled range.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REQUEST, RESULT = "request.json", "result.json"
TRACE, TREE = "trace.json", "proton.hatchet"
# Calls before the profiler starts: the first compiles and tunes, the next ones find memory and code in place.
WARM_CALLS = 3
FLUSH_FACTOR = 2


def main(words: list[str]) -> int:
    """Profile what the request asks for; a case that cannot run is told in the result."""
    folder = Path(words[0])
    request = json.loads((folder / REQUEST).read_text())
    try:
        result = _profile(request, folder)
    except Exception as error:
        from suite.faults import classify

        status, reason = classify(error)
        result = {"status": status, "reason": reason}
    (folder / RESULT).write_text(json.dumps(result))
    return 0 if result["status"] == "ok" else 1


def _profile(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    import torch

    from suite.checks.calling import make_call
    from suite.checks.checker import device_context, refusal
    from suite.discovery import discover
    from suite.hardware.environment import physical_cores
    from suite.problem import Problem

    torch.set_num_threads(physical_cores())
    registry = discover(load=request["load"])
    operator = registry.operator(request["operator"])
    made = registry.implementation(request["operator"], request["implementation"])
    problem = operator.complete(Problem.from_columns(request["problem"]), request["axes"])
    tunables, device = request["tunables"], request["device"]
    if reason := refusal(operator, made, problem, tunables, device):
        return {"status": "unsupported", "reason": reason}
    with device_context(device) as torch_device:
        call = make_call(operator, made, problem, tunables, seed=request["seed"], device=torch_device)
        call.prepare()
        for _ in range(WARM_CALLS):
            call.run()
        _synchronize(device)
        TAKERS[request["tool"]](call.run, request, folder)
    return {"status": "ok", "reason": "", "device": torch.cuda.get_device_name() if device == "cuda" else "cpu"}


def _synchronize(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def _torch(run: Callable[[], object], request: dict[str, Any], folder: Path) -> None:
    from torch.profiler import ProfilerActivity, profile, schedule

    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if request["device"] == "cuda" else [])
    # The profiler's own start belongs to its warm-up step, not to the first call.
    steps = schedule(wait=0, warmup=1, active=request["calls"], repeat=1)
    with profile(activities=activities, schedule=steps) as profiler:
        for _ in range(request["calls"] + 1):
            run()
            _synchronize(request["device"])
            profiler.step()
    profiler.export_chrome_trace(str(folder / TRACE))


def _proton(run: Callable[[], object], request: dict[str, Any], folder: Path) -> None:
    from triton import profiler as proton

    proton.start(str((folder / TREE).with_suffix("")), hook="triton")
    for _ in range(request["calls"]):
        with proton.scope("call", request["cost"]):
            run()
    _synchronize(request["device"])
    proton.finalize()


def _ncu(run: Callable[[], object], request: dict[str, Any], folder: Path) -> None:
    _flush_l2()
    with _profiled_range():
        run()


def _flush_l2() -> None:
    """The call starts as a `cold` timer's does: nothing of its inputs is in the last-level cache."""
    import torch

    size = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    torch.zeros(FLUSH_FACTOR * size, dtype=torch.int8, device="cuda")
    torch.cuda.synchronize()


@contextmanager
def _profiled_range() -> Iterator[None]:
    """What ncu profiles under `--profile-from-start off`."""
    import torch

    torch.cuda.profiler.start()
    yield
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()


TAKERS = {"torch": _torch, "proton": _proton, "ncu": _ncu}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
