"""For people who live in pytest: cases as benchmarks, and stored runs that pytest-benchmark compares."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from suite.cli import main
from suite.discovery import ROOT
from suite.errors import Exit
from tests.suite.store.runs import failed, record, write_run


def compare(*files: Path) -> str:
    """What `pytest-benchmark compare` prints of these files."""
    words = [sys.executable, "-m", "pytest_benchmark", "compare", *map(str, files), "--columns=median,rounds"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=files[0].parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_stored_run_is_compared_by_pytest_benchmark(tmp_path, capsys):
    files = []
    for name, ms in (("before", 2.0), ("after", 3.0)):
        rows = [
            record(f"C{chunk}", samples=[ms, ms + chunk / 1e3, ms + 1], **{"tunable.chunk": chunk})
            for chunk in (32, 64)
        ]
        rows += [record("C64", samples=[ms] * 3, launch=1), failed("C16"), record("C8", kind="check", mode="cpu")]
        run = write_run(tmp_path / name, rows)
        assert main(["export", str(run), "--to", "pytest-benchmark"]) == Exit.PASS
        files.append(run / "benchmark.json")
        assert capsys.readouterr().out == f"{files[-1]}\n"
    made = json.loads(files[0].read_text())
    assert [each["param"].rpartition("_")[2] for each in made["benchmarks"]] == ["C32", "C64", "C64-launch1"]
    assert {each["group"] for each in made["benchmarks"]} == {"retention/B1_T64_H2_K8_V8_fp32_fwd"}
    stats = made["benchmarks"][0]["stats"]
    assert stats["median"] == pytest.approx(statistics.median([2.0, 2.032, 3.0]) / 1e3)
    assert (stats["rounds"], stats["data"][0]) == (3, 2.0e-3)
    printed = compare(*files)
    assert printed.count("test_case[retention/triton_chunk/B1_T64_H2_K8_V8_fp32_fwd_C32]") == 2
    assert "2.0320" in printed
    assert "3.0320" in printed


def test_several_modes_are_told_apart(tmp_path):
    rows = [record(mode=mode) for mode in ("cold-events", "warm-graph")]
    run = write_run(tmp_path / "run", rows)
    assert main(["export", str(run), "--to", "pytest-benchmark", "--out", str(tmp_path / "b.json")]) == Exit.PASS
    names = [each["name"] for each in json.loads((tmp_path / "b.json").read_text())["benchmarks"]]
    assert [name.rpartition("C64")[2] for name in names] == ["-cold-events]", "-warm-graph]"]


def test_without_pytest_benchmark_it_says_how_to_install_it(tmp_path, monkeypatch, capsys):
    run = write_run(tmp_path / "run", [record()])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["export", str(run), "--to", "pytest-benchmark"]) == Exit.USAGE
    assert "pip install 'pytest-benchmark>=5.0'" in capsys.readouterr().err


@pytest.mark.long
def test_registered_cases_are_measured_under_pytest_and_compared_with_an_exported_run(tmp_path):
    measured = tmp_path / "measured.json"
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "tests/benchmarks/test_cases.py",
        "--benchmark-only",
        "-p",
        "no:cacheprovider",
        "--op",
        "linear_attention",
        "--impl",
        "naive,triton_chunk",
        "-k",
        "fp32_fwd and not bwd",
        "--benchmark-json",
        str(measured),
    ]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert "1 passed, 1 skipped" in done.stdout
    (benchmark,) = json.loads(measured.read_text())["benchmarks"]
    assert benchmark["group"] == "linear_attention/B1_T128_H2_K32_V32_fp32_fwd"
    assert benchmark["extra_info"]["timer"] == "cpu"
    assert 1e-6 < benchmark["stats"]["median"] < 1.0
    run = tmp_path / "run"
    case = benchmark["name"].partition("[")[2].rstrip("]")
    write_run(run, [record(case_id=case, **{"tunable.chunk": None})])
    main(["export", str(run), "--to", "pytest-benchmark"])
    assert compare(measured, run / "benchmark.json").count(f"test_case[{case}]") == 2
