"""Taking a profile: the case runs in a fresh process under the tool, and this module reads what the tool wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.cachefolder import variables
from suite.cost import Cost
from suite.discovery import ROOT
from suite.errors import SubquadError, UsageError
from suite.hardware.environment import revision
from suite.profiling import ncu
from suite.profiling.model import Options, Profile
from suite.profiling.target import REQUEST, RESULT, TRACE, TREE
from suite.profiling.traces import read_trace
from suite.profiling.trees import read_tree
from suite.store.paths import AnyPath, unwritable

if TYPE_CHECKING:
    from suite.problem import Case

TIMEOUT_S = 1800.0
NEEDS_GPU = "--tool {tool} sees kernels of a GPU, and there is none here; profile the CPU with --tool torch"


class FailedCase(SubquadError):
    """The case could not be profiled because of what its implementation did; `status` is that of a record."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def profile(case: Case, options: Options, out: AnyPath, cost: Cost | None = None) -> Profile:
    """Profile one case, with everything that the tool writes kept in the folder `out`.

    cost: of one call, for proton's tree; left out of it when not given
    Raises UsageError when the tool is absent, needs a GPU, or is refused its counters; FailedCase when the case does
    not run; SubquadError when the tool fails.
    """
    if options.tool != "torch" and options.device == "cpu":
        raise UsageError(NEEDS_GPU.format(tool=options.tool))
    tool = ncu.find() if options.tool == "ncu" else ""
    folder = Path(out).resolve()
    _write_request(folder, case, options, cost)
    command = [sys.executable, "-m", "suite.profiling.target", str(folder)]
    if options.tool == "ncu":
        return _count(tool, command, folder, case, options)
    _run_target(command, folder, options.device)
    return _read(folder, case, options)


def _write_request(folder: Path, case: Case, options: Options, cost: Cost | None) -> None:
    request = {
        "tool": options.tool,
        "device": options.device,
        "calls": options.calls,
        "seed": options.seed,
        "load": list(options.load),
        "operator": case.operator,
        "implementation": case.implementation,
        "problem": case.problem.columns(),
        "axes": dict(case.problem.axes),
        "tunables": dict(case.tunables),
        "cost": {"flops": float(cost.flops_alg), "bytes": float(cost.bytes_compulsory)} if cost else {},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in (RESULT, TRACE, TREE, *(path.name for path in folder.glob(f"{ncu.REPORT}.ncu-rep*"))):
            (folder / stale).unlink(missing_ok=True)
        (folder / REQUEST).write_text(json.dumps(request))
    except OSError as error:
        raise unwritable(folder, error) from error


def _run_target(command: Sequence[str], folder: Path, device: str) -> None:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            env=_environment(device),
        )
    except subprocess.TimeoutExpired as error:
        raise FailedCase("timeout", f"the profiled process did not end within {TIMEOUT_S:.0f} s") from error
    _require_ok(folder, done.returncode, done.stderr)


def _environment(device: str) -> dict[str, str]:
    return {**os.environ, **variables(), **({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {})}


def _require_ok(folder: Path, code: int, said: str) -> dict[str, Any]:
    """The target's result; FailedCase when the case did not run, or when its process ended without one."""
    path = folder / RESULT
    if not path.is_file():
        last = next((line for line in reversed(said.splitlines()) if line.strip()), "it printed nothing")
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise FailedCase("crashed", f"the profiled process ended by {how}: {last}")
    result = json.loads(path.read_text())
    if result["status"] != "ok":
        raise FailedCase(result["status"], result["reason"])
    return result


def _read(folder: Path, case: Case, options: Options) -> Profile:
    result = json.loads((folder / RESULT).read_text())
    if options.tool == "torch":
        kernels, files = read_trace(folder / TRACE, options.calls, options.device), {"trace": str(folder / TRACE)}
    else:
        kernels, files = read_tree(folder / TREE, options.calls), {"tree": str(folder / TREE)}
    made = version("torch" if options.tool == "torch" else "triton")
    return Profile(
        case.case_id, options.tool, made, result["device"], kernels, files=files, commit=revision(ROOT), created=_now()
    )


def _count(tool: str, command: Sequence[str], folder: Path, case: Case, options: Options) -> Profile:
    try:
        counted = ncu.count(tool, command, folder, options.replay)
    except SubquadError:
        # A case that does not run leaves ncu nothing to count: that is the reason to tell.
        if (folder / RESULT).is_file():
            _require_ok(folder, 1, "")
        raise
    result = _require_ok(folder, 0, "")
    return Profile(
        case.case_id,
        options.tool,
        ncu.version(tool),
        result["device"],
        counted.kernels,
        counted.counters,
        counted.missing,
        {"report": str(counted.report)},
        options.replay,
        revision(ROOT),
        _now(),
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
