"""`doctor` on machines that are made up: which combinations it knows, what it exits with, and what it looks at here."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from suite.cli import main
from suite.cli.doctor import MEANING, rows
from suite.hardware import known_faults, machine
from suite.hardware.known_faults import KINDS, VERSIONED, faults_of, gpus_of, table
from suite.hardware.machine import counters_restricted, driver_states, facts, probed

H200 = {"name": "NVIDIA H200", "arch": "sm_90", "ptxas": "13.4.27"}
B200 = {"name": "NVIDIA B200", "arch": "sm_100", "ptxas": "13.4.27"}
FINE = {
    "python": "3.12.3",
    "torch": "2.13.0+cu130",
    "triton": "3.7.1",
    "numpy": "2.3.5",
    "cuda": "13.0",
    "driver": "580.65.06",
    "driver_cuda": "13.0",
    "gpus": [H200],
    "assemblers": {"ptxas": {"name": "ptxas", "path": "/p", "version": "13.4.27", "given": True}},
    "packages": dict.fromkeys(machine.OPTIONAL, "1.0"),
    "tools": {"ncu": "2025.3.1", "compute-sanitizer": None},
    "folders": {"cache": "/c", "Triton cache": "/t"},
    "states": {},
}
WITHOUT_PLOTLY = {name: version for name, version in FINE["packages"].items() if name != "plotly"}
# A change of FINE, the faults that it brings, and the exit code.
MACHINES: list[tuple[dict[str, Any], list[str], int]] = [
    ({}, [], 0),
    ({"gpus": []}, [], 0),
    ({"gpus": [{**H200, "ptxas": "12.8.93"}]}, ["hopper-wgmma-registers"], 1),
    ({"gpus": [{**H200, "ptxas": "13.1.115"}]}, ["hopper-wgmma-registers"], 1),
    ({"gpus": [{**H200, "ptxas": "13.3.33"}]}, [], 0),
    ({"gpus": [{**H200, "ptxas": "12.9.86"}]}, ["hopper-wgmma-registers", "hopper-packed-adds"], 1),
    ({"gpus": [{**H200, "ptxas": None}]}, [], 0),
    ({"gpus": [{**H200, "arch": "sm_80", "ptxas": "12.8.93"}]}, [], 0),
    ({"gpus": [B200]}, ["blackwell-carried-sum", "blackwell-two-products-one-sum"], 1),
    ({"gpus": [B200], "triton": "3.9.0"}, ["blackwell-carried-sum"], 1),
    ({"gpus": [{**B200, "arch": "sm_120"}]}, [], 0),
    ({"gpus": [H200, B200], "triton": "3.9.0"}, ["blackwell-carried-sum"], 1),
    ({"torch": "2.11.0+cu130"}, ["torch-failed-capture"], 0),
    ({"torch": "2.11.0+cpu", "gpus": []}, [], 0),
    ({"triton": "3.6.0", "numpy": "2.4.0"}, ["interpreter-numpy"], 0),
    ({"triton": "3.6.0", "numpy": "2.3.5"}, [], 0),
    ({"triton": "3.7.0", "numpy": "2.5.0"}, [], 0),
    ({"packages": WITHOUT_PLOTLY}, ["no-plotly"], 0),
    ({"states": {"driver_major_older": "12.8 and 13.0"}, "gpus": []}, ["driver-older-than-cuda"], 1),
    ({"states": {"driver_minor_older": "13.0 and 13.2"}}, ["driver-minor-older"], 0),
    ({"states": {"counters_refused": "no administrator"}}, ["counters-refused"], 0),
    ({"states": {"nvml_refused": "no library"}}, ["no-nvml"], 0),
    ({"states": {"nvml_refused": "no library"}, "gpus": []}, [], 0),
    ({"states": {"torch_fails": "ImportError"}, "gpus": []}, ["torch-fails"], 1),
    ({"states": {"cuda_fails": "RuntimeError"}, "gpus": []}, ["cuda-fails"], 1),
    ({"states": {"cache_refused": "read-only"}}, ["cache-refused"], 1),
    ({"states": {"triton_cache_refused": "read-only"}}, ["triton-cache-refused"], 1),
    ({"states": {"ptxas_refused": "TRITON_PTXAS_PATH=/nope"}, "assemblers": {}}, ["ptxas-refused"], 1),
]


@pytest.mark.parametrize(("changed", "names", "code"), MACHINES, ids=lambda each: str(each)[:60])
def test_machines(
    changed: dict[str, Any],
    names: list[str],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(machine, "facts", lambda: {**FINE, **changed})
    assert main(["doctor", "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in told["faults"]] == names
    assert main(["doctor"]) == code
    text = capsys.readouterr().out
    for each in told["faults"]:
        assert f"{each['name']}: {MEANING[each['kind']]}" in text
        assert each["what"] in text
        assert each["remedy"] in text
        assert each["found"] in text
    assert ("nothing is known to be wrong" in text) == (not names)


def test_the_reference_machine_has_all_that_was_found_for_it() -> None:
    found = faults_of(
        {
            **FINE,
            "torch": "2.11.0+cu130",
            "triton": "3.6.0",
            "numpy": "2.5.0",
            "gpus": [{**H200, "ptxas": "12.8.93"}],
            "packages": {},
        }
    )
    assert [each.name for each in found] == [
        "hopper-wgmma-registers",
        "torch-failed-capture",
        "interpreter-numpy",
        "no-plotly",
    ]


def test_an_absent_package_is_told_with_its_use() -> None:
    told = dict(rows({**FINE, "packages": WITHOUT_PLOTLY}))
    assert told["plotly"] == "not installed; needed for reports"


def test_a_gpu_s_fault_names_the_gpu() -> None:
    found = {**FINE, "gpus": [H200, B200]}
    (carried, *_) = faults_of(found)
    assert gpus_of(carried, found) == ["NVIDIA B200"]


def test_every_entry_is_complete_and_some_machine_here_has_it() -> None:
    assert len({fault.name for fault in table()}) == len(table())
    known = {known_faults.GPU, known_faults.ARCH, known_faults.ABSENT, known_faults.STATE, *VERSIONED}
    for fault in table():
        assert fault.kind in KINDS
        assert fault.when
        assert set(fault.when) <= known
        for name in set(VERSIONED) & set(fault.when):
            assert SpecifierSet(fault.when[name])
        assert not fault.what.endswith(".")
        assert fault.remedy
        assert fault.sources
        assert all(source.startswith("https://") for source in fault.sources)
    assert {fault.name for fault in table()} == {name for _, names, _ in MACHINES for name in names}


@pytest.mark.parametrize(
    ("cuda", "driver", "state"),
    [
        ("13.0", "13.0", None),
        ("13.0", "13.2", None),
        ("12.8", "13.0", None),
        ("13.0", "12.8", "driver_major_older"),
        ("13.2", "13.0", "driver_minor_older"),
        ("12.10", "12.9", "driver_minor_older"),
        (None, "13.0", None),
        ("13.0", None, None),
    ],
)
def test_drivers(cuda: str | None, driver: str | None, state: str | None) -> None:
    assert list(driver_states(cuda, driver)) == ([state] if state else [])


def test_whether_counters_are_for_administrators() -> None:
    assert counters_restricted("ModifyDeviceFiles: 1\nRmProfilingAdminOnly: 1\n")
    assert not counters_restricted("RmProfilingAdminOnly: 0\n")
    assert not counters_restricted("")


def test_this_machine() -> None:
    found = facts()
    assert {"python", "torch", "triton", "numpy", "assemblers", "packages", "tools", "folders", "gpus"} <= set(found)
    assert "torch_fails" not in found["states"]
    json.dumps(found)


@pytest.mark.parametrize(
    ("out", "err", "why"),
    [("", "ImportError: libtorch.so", "ImportError: libtorch.so"), ("", "", "exit code -11"), ("x", "a\nb", "b")],
)
def test_a_torch_that_crashes_is_a_fact(out: str, err: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.CompletedProcess([], -11, out, err)
    monkeypatch.setattr(machine.subprocess, "run", lambda *_, **__: ended)
    found = probed()
    assert why in found["states"]["torch_fails"]
    assert found["gpus"] == []


def test_folders_that_cannot_be_written_and_a_file_that_is_no_ptxas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for variable in ("SUBQUAD_CACHE", "TRITON_CACHE_DIR", "TRITON_PTXAS_PATH"):
        monkeypatch.setenv(variable, str(file))
    monkeypatch.setattr(machine, "probed", lambda: {"gpus": [dict(H200)], "states": {}})
    found = facts()
    assert {"cache_refused", "triton_cache_refused", "ptxas_refused"} <= set(found["states"])
    assert found["gpus"][0]["ptxas"] is None
    names = {fault.name for fault in faults_of(found)}
    assert {"cache-refused", "triton-cache-refused", "ptxas-refused"} <= names


def test_a_real_gpu_is_compiled_for_by_the_ptxas_that_triton_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(machine, "probed", lambda: {"gpus": [dict(H200), dict(B200)], "states": {}})
    found = facts()
    hopper, blackwell = (gpu["ptxas"] for gpu in found["gpus"])
    assert hopper == found["assemblers"]["ptxas"]["version"]
    assert blackwell == found["assemblers"]["ptxas-blackwell"]["version"]
