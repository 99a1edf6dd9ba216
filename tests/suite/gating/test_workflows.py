"""The ready workflows: they parse, their scripts are sound, and what they run works on a small selection."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from suite.discovery import ROOT
from tests.suite.gating.checkout import DOUBLE, commit, edit, make_checkout, write

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install pyyaml")
WORKFLOWS = ROOT / ".github" / "workflows"
NAMES = sorted(path.name for path in WORKFLOWS.glob("*.yml"))


def workflow(name: str) -> dict[str, Any]:
    return yaml.safe_load((WORKFLOWS / name).read_text())


def steps(name: str) -> dict[str, str]:
    """Scripts by `job/step`, for the steps that run one."""
    jobs = workflow(name)["jobs"]
    return {
        f"{job}/{step.get('name', '')}": step["run"] for job in jobs for step in jobs[job]["steps"] if "run" in step
    }


def run(script: str, checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a step's script as a runner does, in a checkout, with this Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = {
        "PATH": path,
        "GITHUB_STEP_SUMMARY": str(checkout / "summary.md"),
        "BASE": "HEAD",
        "SELECT": "",
        **environment,
    }
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=checkout,
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return make_checkout(tmp_path / "checkout", names=("one",))


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_is_sound(name):
    made = workflow(name)
    assert {"name", "jobs"} <= set(made)
    for job in made["jobs"].values():
        assert job["timeout-minutes"] <= 180
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])
    for script in steps(name).values():
        assert subprocess.run(["bash", "-n", "-c", script]).returncode == 0


def test_ci_runs_the_oldest_and_the_newest_python_that_are_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: 3."
    declared = sorted(int(each.removeprefix(prefix)) for each in project["classifiers"] if each.startswith(prefix))
    assert project["requires-python"] == f">=3.{declared[0]}"
    assert declared == list(range(declared[0], declared[-1] + 1))
    job = workflow("ci.yml")["jobs"]["test"]
    assert job["strategy"]["matrix"]["python-version"] == [f"3.{declared[0]}", f"3.{declared[-1]}"]
    (setup,) = (step for step in job["steps"] if "setup-python" in step.get("uses", ""))
    assert setup["with"]["python-version"] == "${{ matrix.python-version }}"


def test_a_forks_code_does_not_run_on_the_gpu_runner():
    gate = workflow("gate-gpu.yml")["jobs"]["gate"]
    assert "self-hosted" in gate["runs-on"]
    assert "head.repo.full_name == github.repository" in gate["if"]


@pytest.mark.long
def test_an_inconclusive_gate_is_a_warning_with_its_summary(checkout):
    edit(checkout, "baselines/one.py", "REPEAT = 20", "REPEAT = 21")
    done = run(steps("gate.yml")["gate/Gate"], checkout, SELECT="--preset registry --rounds 1 --no-static")
    assert done.returncode == 0, done.stderr
    assert "::warning::the gate is inconclusive" in done.stdout
    assert "**inconclusive: 1 inconclusive, 2 same**" in (checkout / "summary.md").read_text()
    assert all((checkout / f"gate.{form}").stat().st_size for form in ("xml", "json", "html"))


@pytest.mark.long
def test_a_kernel_that_is_wrong_or_spills_fails_without_a_gpu(checkout):
    write(checkout, "kernels/double.py", DOUBLE)
    commit(checkout)
    scripts = steps("gate.yml")
    assert run(scripts["gate/Numerics"], checkout).returncode == 0
    edit(checkout, "kernels/double.py", "WARPS = 8", "WARPS = 1")
    done = run(scripts["gate/Gate"], checkout, SELECT="--preset registry --fail-on spills")
    assert done.returncode == 1
    assert "spills 0 -\\> " in (checkout / "summary.md").read_text()
    edit(checkout, "kernels/double.py", "2.0, 0.0)", "2.01, 0.0)")
    assert run(scripts["gate/Numerics"], checkout).returncode == 1


@pytest.mark.long
def test_the_gpu_runners_commands_run(checkout, tmp_path):
    scripts = steps("gate-gpu.yml")
    here = {"DEVICE": "cpu", "SELECT": "--preset registry", "SUBQUAD_CACHE": str(tmp_path / "cache")}
    assert run(scripts["gate/Numerics"], checkout, DEVICE="cpu").returncode == 0
    assert run(scripts["gate/Gate"], checkout, **here).returncode == 0
    assert "**pass: 1 unchanged**" in (checkout / "summary.md").read_text()
    done = run(scripts["calibrate/Calibrate"], checkout, **{**here, "SELECT": "--preset registry --rounds 2"})
    assert done.returncode == 0
    assert "stored in the A/A history of this machine: 1 of 1 cases" in done.stdout
    edit(checkout, "baselines/one.py", "return found", "return (found[0] + 0.02, None)")
    assert run(scripts["gate/Gate"], checkout, **here).returncode == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_may_only_read_and_says_what_ends_it(name: str) -> None:
    """Its token can change nothing, and a newer run of the same branch ends it or waits for it."""
    found = workflow(name)
    assert found["permissions"] == {"contents": "read"}
    assert set(found["concurrency"]) == {"group", "cancel-in-progress"}
    assert all("timeout-minutes" in job for job in found["jobs"].values())


def test_every_family_of_mutations_is_tried_at_night() -> None:
    from tests.mutations.faults import families

    assert workflow("mutations.yml")["jobs"]["mutate"]["strategy"]["matrix"]["family"] == sorted(families())
