"""What this machine is, as far as a fault may depend on it: versions, GPUs, tools, and what is refused.

torch and NVML are asked in a process of their own, `python -m suite.hardware.machine`: a library that crashes when it
is imported is a fact, and not the end of the command that wanted to tell it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suite.cachefolder import cache_folder
from suite.discovery import ROOT
from suite.errors import SubquadError, UsageError
from suite.hardware import assemblers
from suite.requirement import installed

# Distributions that the suite can do without, in part, and what for.
OPTIONAL = {
    "plotly": "reports",
    "matplotlib": "pictures",
    "jinja2": "reports",
    "nvidia-ml-py": "clocks, power, energy",
    "pyarrow": "export to Parquet",
    "fla-core": "comparing with it",
    "flash-attn": "comparing with it",
    "mamba-ssm": "comparing with it",
}
PARAMETERS = Path("/proc/driver/nvidia/params")
TIMEOUT_S = 120.0
# Linux's number of CAP_SYS_ADMIN.
SYS_ADMIN = 21
TRITON_CACHE = "TRITON_CACHE_DIR"


def facts() -> dict[str, Any]:
    """What is known of this machine.

    Versions by name (`python`, `torch`, `triton`, `numpy`, `driver`), `cuda` (torch's) and `driver_cuda`; `gpus`, each
    with `name`, `arch`, `ptxas`; `assemblers`; `packages` of OPTIONAL that are installed; `tools` and `folders`, each
    name with a version or path; `states`, what is refused, each with the reason. What is not known is absent.
    """
    asked = probed()
    states: dict[str, str] = asked.pop("states")
    found: dict[str, Any] = {"python": platform.python_version()}
    found |= {name: version for name in ("torch", "triton", "numpy") if (version := installed(name))}
    found |= asked
    found["assemblers"] = _assemblers(states)
    for gpu in found["gpus"]:
        gpu["ptxas"] = _ptxas_of(gpu["arch"]) if found["assemblers"] else None
    found["packages"] = {name: version for name in OPTIONAL if (version := installed(name))}
    found["tools"] = {name: _tool(name) for name in ("ncu", "compute-sanitizer", "git")}
    found["folders"] = _folders(states)
    states |= driver_states(found.get("cuda"), found.get("driver_cuda"))
    if found["gpus"] and counters_restricted(_text(PARAMETERS)) and not _may_administer():
        states["counters_refused"] = "RmProfilingAdminOnly is 1, and this user is no administrator"
    return {**found, "states": states}


def probed() -> dict[str, Any]:
    """What torch and NVML say in a process of their own; where that dies, the reason among `states`."""
    command = [sys.executable, "-m", "suite.hardware.machine"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return {"gpus": [], "states": {"torch_fails": f"no answer within {TIMEOUT_S:.0f} s"}}
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        lines = done.stderr.strip().splitlines()
        why = lines[-1] if lines else f"the process that imports it ended with exit code {done.returncode}"
        return {"gpus": [], "states": {"torch_fails": why}}


def driver_states(cuda: str | None, driver_cuda: str | None) -> dict[str, str]:
    """Whether the driver's CUDA is older than torch's; both as "13.0", None where there is none."""
    if not cuda or not driver_cuda:
        return {}
    (torch_major, torch_minor), (major, minor) = (tuple(map(int, each.split(".")[:2])) for each in (cuda, driver_cuda))
    if (major, minor) >= (torch_major, torch_minor):
        return {}
    state = "driver_major_older" if major < torch_major else "driver_minor_older"
    return {state: f"the driver knows CUDA {driver_cuda}, torch was built with {cuda}"}


def counters_restricted(parameters: str) -> bool:
    """Whether the driver's module keeps performance counters for administrators, by its parameters' text."""
    return re.search(r"^RmProfilingAdminOnly:\s*1\s*$", parameters, re.MULTILINE) is not None


def _assemblers(states: dict[str, str]) -> dict[str, dict[str, Any]]:
    try:
        return {name: vars(each) for name, each in assemblers.assemblers().items()}
    except UsageError as error:
        states["ptxas_refused"] = str(error)
        return {}


def _ptxas_of(arch: str) -> str | None:
    return assemblers.version_for(int(arch.removeprefix("sm_")))


def _folders(states: dict[str, str]) -> dict[str, str]:
    found = {}
    try:
        found["cache"] = str(cache_folder())
        _write(cache_folder())
    except (SubquadError, OSError) as error:
        states["cache_refused"] = str(error)
    named = os.environ.get(TRITON_CACHE)
    found["Triton cache"] = named or f"{Path(found.get('cache', '')) / 'triton'}, a folder for each run"
    if named:
        try:
            _write(Path(named))
        except OSError as error:
            states["triton_cache_refused"] = error.strerror or str(error)
    return found


def _write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"0")


def _tool(name: str) -> str | None:
    """A tool's version, or its path where it says none; None where it is not on PATH."""
    path = shutil.which(name)
    if path is None:
        return None
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return path
    matched = re.search(r"\d+\.\d+(\.\d+)+", done.stdout)
    return matched[0] if matched else path


def _may_administer() -> bool:
    """Whether this process has CAP_SYS_ADMIN."""
    matched = re.search(r"^CapEff:\s*([0-9a-f]+)", _text(Path("/proc/self/status")), re.MULTILINE)
    return bool(matched and int(matched[1], 16) >> SYS_ADMIN & 1)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _probe() -> dict[str, Any]:
    """Asked in a process of its own: torch's CUDA and GPUs, the driver."""
    states: dict[str, str] = {}
    found: dict[str, Any] = {"gpus": [], **_driver(states)}
    try:
        import torch

        found["cuda"] = torch.version.cuda
        for index in range(torch.cuda.device_count()):
            p = torch.cuda.get_device_properties(index)
            found["gpus"].append({"name": p.name, "arch": f"sm_{p.major}{p.minor}"})
    except Exception as error:
        # Whatever a library raises is what is to be told.
        states["cuda_fails" if "cuda" in found else "torch_fails"] = f"{type(error).__name__}: {error}"
    return {**found, "states": states}


def _driver(states: dict[str, str]) -> Mapping[str, str]:
    try:
        import pynvml

        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetCudaDriverVersion()
        return {
            "driver": pynvml.nvmlSystemGetDriverVersion(),
            "driver_cuda": f"{version // 1000}.{version % 1000 // 10}",
        }
    except Exception as error:
        states["nvml_refused"] = f"{type(error).__name__}: {error}"
        return {}


if __name__ == "__main__":
    print(json.dumps(_probe()))
