"""ncu: counters of one call. Finds the tool, asks what the device can count, runs the target under it, adds up.

ncu runs the target once for each pass that its counters need, or each kernel several times. Nothing here takes a time:
`duration_ns` only weighs a call's kernels against each other.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from suite.cachefolder import variables
from suite.discovery import ROOT
from suite.errors import SubquadError, UsageError
from suite.profiling.counters import Plan, base, figures_of, over_call, plan
from suite.profiling.model import Kernel, ranked
from suite.profiling.ncu_output import Launch, launches, messages, metrics_of, unknown_metric

PLACES = ("/usr/local/cuda/bin/ncu", "/opt/nvidia/nsight-compute/*/ncu")
ABSENT = (
    "--tool ncu: ncu (Nsight Compute) is not installed; install the CUDA toolkit, or nsight-compute from NVIDIA's CUDA "
    "repository, and put ncu on PATH"
)
REFUSED = (
    "--tool ncu: this user may not read the GPU's performance counters (ERR_NVGPUCTRPERM); load the nvidia module with "
    "NVreg_RestrictProfilingToAdminUsers=0, or run with CAP_SYS_ADMIN (in a container: --cap-add=SYS_ADMIN)"
)
HELD = (
    "--tool ncu: another program holds the GPU's performance counters, such as DCGM or another profiler; end it, or "
    "pause it with `dcgmi profile --pause`"
)
EMPTY = "--tool ncu: the call launched no kernel on the GPU, so there is nothing to count"
# Autotuners must choose in one pass what they chose in the pass before.
ENVIRONMENT = {"LC_ALL": "C", "TRITON_CACHE_AUTOTUNING": "1"}
TIMEOUT_S = 3600.0
REPORT = "counters"


@dataclass(frozen=True)
class Counted:
    """What ncu counted: the call's kernels, their sums, what is missing, and the report that ncu's own viewer opens."""

    kernels: tuple[Kernel, ...]
    counters: dict[str, float]
    missing: tuple[str, ...]
    report: Path


def find(places: Sequence[str] = PLACES) -> str:
    """ncu's path: on PATH, or where NVIDIA's packages put it. UsageError that says what to install when absent."""
    if found := shutil.which("ncu"):
        return found
    root = Path("/")
    known = sorted(str(path) for place in places for path in root.glob(place.lstrip("/")) if os.access(path, os.X_OK))
    if not known:
        raise UsageError(ABSENT)
    return known[-1]


def version(ncu: str) -> str:
    """The version that ncu says it is, or an empty string."""
    words = _run([ncu, "--version"]).split()
    return words[words.index("Version") + 1] if "Version" in words[:-1] else ""


def count(ncu: str, command: Sequence[str], folder: Path, replay: str) -> Counted:
    """Run a target command under ncu and read its counters.

    replay: `application` runs the command again for each pass with caches as they are, `kernel` each kernel with caches
            emptied before it
    Raises UsageError when counters are refused or held, or when nothing was launched, SubquadError for anything else
    that ncu reports.
    """
    text = _run([ncu, "--query-metrics"])
    refuse(text)
    chosen = plan(metrics_of(text))
    while True:
        text = _run([*arguments(ncu, folder / REPORT, replay, chosen.metrics), *command])
        lacking = unknown_metric(text)
        if lacking is None:
            break
        if not any(base(metric) == lacking for metric in chosen.metrics):
            raise SubquadError(f"ncu does not know {lacking}, which was not asked for; see docs/profiling.md")
        chosen = chosen.without(lacking)
    report = _report(folder, text)
    raw = _run([ncu, "--import", str(report), "--csv", "--page", "raw", "--print-units", "base"])
    return summed(launches(raw), chosen, report)


def arguments(ncu: str, report: Path, replay: str, metrics: Sequence[str]) -> list[str]:
    """ncu's command line before the target's."""
    caches = ["--app-replay-mode", "strict", "--cache-control", "none"]
    return [
        ncu,
        "--export",
        str(report),
        "--force-overwrite",
        "--profile-from-start",
        "off",
        "--clock-control",
        "none",
        "--replay-mode",
        replay,
        *(caches if replay == "application" else ["--cache-control", "all"]),
        "--metrics",
        ",".join(metrics),
    ]


def refuse(text: str) -> None:
    """Raise the one clear line for a message that says why ncu cannot count here."""
    errors = messages(text, "ERROR")
    if any("ERR_NVGPUCTRPERM" in line for line in errors):
        raise UsageError(REFUSED)
    if any("driver resource was unavailable" in line for line in errors):
        raise UsageError(HELD)


def summed(found: Sequence[Launch], chosen: Plan, report: Path) -> Counted:
    """Launches as kernels of one call, and the call's counters."""
    if not found:
        raise UsageError(EMPTY)
    each = [figures_of(launch.values, chosen) for launch in found]
    by_name: dict[str, list[dict[str, float]]] = {}
    for launch, counters in zip(found, each, strict=True):
        by_name.setdefault(launch.name, []).append(counters)
    kernels = [
        Kernel(name, len(of_one), sum(one.get("duration_ns", 0.0) for one in of_one) / 1e6, 0.0, over_call(of_one))
        for name, of_one in by_name.items()
    ]
    counters = {name: value for name, value in over_call(each).items() if name != "duration_ns"}
    return Counted(ranked(kernels), counters, (*chosen.missing, *_absent(found, chosen)), report)


def _absent(found: Sequence[Launch], chosen: Plan) -> list[str]:
    """Counters that the device has and some launch was not given, with the reason."""
    reasons: dict[str, str] = {}
    for counter, way in chosen.ways:
        for launch in found:
            for metric in way:
                if metric not in launch.values and not counter.optional:
                    reasons.setdefault(counter.name, f"{metric} {launch.absent.get(metric, 'not in the table')}")
    return [f"{name}: {reason}" for name, reason in reasons.items()]


def _report(folder: Path, text: str) -> Path:
    """The report that ncu wrote; where it wrote none, the error that says why."""
    refuse(text)
    written = sorted(folder.glob(f"{REPORT}.ncu-rep*"))
    if written:
        return written[-1]
    if any("No kernels were profiled" in line for line in messages(text, "WARNING")):
        raise UsageError(EMPTY)
    errors = messages(text, "ERROR") or [line for line in text.splitlines() if line.strip()][-1:] or ["it said nothing"]
    raise SubquadError(f"ncu wrote no report: {errors[0]}")


def _run(command: Sequence[str]) -> str:
    """What a command printed on both streams, whatever its exit code: ncu's messages say more."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env={**os.environ, **variables(), **ENVIRONMENT},
        )
    except OSError as error:
        raise UsageError(f"--tool ncu: {command[0]} cannot be run: {error.strerror}; reinstall it") from error
    except subprocess.TimeoutExpired as error:
        raise SubquadError(f"ncu did not end within {TIMEOUT_S:.0f} s; take a smaller problem") from error
    return done.stdout + "\n" + done.stderr
