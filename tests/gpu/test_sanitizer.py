"""On a device: our kernels under compute-sanitizer, on small shapes; skipped with the reason where it is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from suite.discovery import ROOT, discover

pytestmark = pytest.mark.gpu

TIMEOUT_S = 420
# compute-sanitizer's own exit code when it finds an error, as told to it below.
FOUND = 87
KERNELS = sorted(
    (op.name, pass_)
    for op in discover().operators.values()
    for pass_ in ("fwdbwd", "decode")
    if any(
        made.origin == "ours" and "cuda" in made.devices and pass_ in made.passes
        for made in op.implementations.values()
    )
)


def sanitized(tool: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["compute-sanitizer", "--tool", tool, "--target-processes", "all", "--error-exitcode", str(FOUND)]
    # PyTorch's cache hands out pieces of large allocations: a write beyond one of them would stay unseen.
    uncached = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    return subprocess.run(
        [*command, sys.executable, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env=uncached,
    )


@pytest.fixture(scope="module")
def sanitizer() -> None:
    if shutil.which("compute-sanitizer") is None:
        pytest.skip("compute-sanitizer is not installed; it comes with the CUDA toolkit")
    probe = sanitized("memcheck", "-c", "import torch; torch.ones(8, device='cuda').sum().item()")
    if probe.returncode != 0:
        pytest.skip(f"compute-sanitizer does not run here: {(probe.stdout + probe.stderr).strip().splitlines()[-1]}")


@pytest.mark.usefixtures("sanitizer")
@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
@pytest.mark.parametrize(("operator", "pass_"), KERNELS)
def test_kernels_are_clean(operator: str, pass_: str, tool: str) -> None:
    shape = "B=1,T=130,H=2,K=64" if pass_ == "fwdbwd" else "B=2,T=16,H=2,K=64"
    words = ["-m", "suite", "check", "--device", "cuda", "--op", operator, "--origin", "ours", "--pass", pass_]
    done = sanitized(tool, *words, "--dtype", "bf16", "--shape", shape, "--timeout", str(TIMEOUT_S))
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
