"""The gate of Triton kernels on a machine without a GPU: compiled code, and numerics in the interpreter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.suite.gating.checkout import DOUBLE, commit, edit, make_checkout, subquad, write

KERNEL = "kernels/double.py"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = make_checkout(tmp_path / "checkout", names=("one",))
    write(folder, KERNEL, DOUBLE)
    commit(folder)
    return folder


def gate(checkout: Path, *words: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """(exit code, metric of `double` -> verdict and reason) of a gate against HEAD."""
    out = checkout / "gate.json"
    done = subquad(checkout, "gate", "--base", "HEAD", "--preset", "registry", "--json", str(out), *words)
    assert "Traceback" not in done.stderr
    cases = json.loads(out.read_text())["cases"]
    found = {each["metric"]: (each["verdict"], each["reason"]) for each in cases if "double" in each["case_id"]}
    return done.returncode, found


# In quick tests its parts stand alone: two checkouts compiled in static/test_compare.py, the gate in test_gpu.py.
@pytest.mark.long
def test_a_kernel_that_spills_turns_red_without_a_gpu(checkout):
    edit(checkout, KERNEL, "WARPS = 8", "WARPS = 1")
    code, found = gate(checkout, "--fail-on", "spills")
    assert code == 1
    assert found["static"][0] == "slower"
    assert "double_kernel: spills 0 -> " in found["static"][1]
    assert found["time"] == ("unchanged", "no number to lose: triton does not run on cpu, only on cuda, interpret")
    assert found["error"][0] == "same"


@pytest.mark.long
def test_the_same_binary_of_other_code_passes_and_wrong_numbers_do_not(checkout):
    edit(checkout, KERNEL, "rows = v.numel() // v.shape[-1]", "rows = v.numel() // int(v.shape[-1])")
    code, found = gate(checkout)
    assert (code, found["static"]) == (0, ("unchanged", "same binaries, same launches"))
    assert found["error"][0] == "same"
    edit(checkout, KERNEL, "2.0, 0.0)", "2.01, 0.0)")
    code, found = gate(checkout, "--no-static")
    assert (code, found["error"][0]) == (1, "broken")
    assert "incorrect: o: error" in found["error"][1]


@pytest.mark.long
def test_a_new_kernel_that_is_wrong_in_the_interpreter_fails(checkout):
    new = DOUBLE.replace('"double"', '"twice"').replace("double = ", "twice = ").replace("@double.", "@twice.")
    write(checkout, "kernels/twice.py", new)
    assert gate(checkout, "--no-static", "--op", "twice")[0] == 3
    edit(checkout, "kernels/twice.py", "2.0, 0.0)", "2.01, 0.0)")
    out = checkout / "gate.json"
    words = ("gate", "--base", "HEAD", "--preset", "registry", "--no-static", "--op", "twice", "--json", str(out))
    assert subquad(checkout, *words).returncode == 1
    cases = [each for each in json.loads(out.read_text())["cases"] if each["metric"] == "error"]
    assert {each["verdict"] for each in cases} == {"broken"}
    assert "not in the baseline, and incorrect: o: error" in cases[0]["reason"]
