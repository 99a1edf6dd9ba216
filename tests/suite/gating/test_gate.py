"""The gate over stored runs: every verdict and exit code, through the command line."""

from __future__ import annotations

import json
import random
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from suite.cli import main
from suite.errors import Exit
from suite.gating import gate
from tests.suite.gating.known_machine import calibrate
from tests.suite.store.runs import failed, record, write_run

LAUNCHES = 8
KEYS = [
    "case_id",
    "mode",
    "metric",
    "verdict",
    "reason",
    "ratio",
    "lower",
    "upper",
    "margin",
    "rounds",
    "smallest_detectable",
]
NASTY = "<script>alert(1)</script> | a\n\x1b[31mred\x00 & `code` \ufffe"


def times(name="C64", ms=10.0, seed=0, launches=LAUNCHES, noise=0.003, **changes):
    """Records of a case's launches with seeded noise."""
    draw = random.Random(f"{name}{seed}")
    return [record(name, launch=i, time_ms=ms * draw.gauss(1, noise), **changes) for i in range(launches)]


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Writes two runs of a calibrated machine and returns the gate's arguments."""
    monkeypatch.setenv("SUBQUAD_CACHE", str(tmp_path / "cache"))

    def write(before, after, **fingerprint):
        calibrate((each["case_id"] for each in [*before, *after]), **fingerprint)
        base = write_run(tmp_path / "before", before)
        candidate = write_run(tmp_path / "after", after, **fingerprint)
        return ["gate", "--baseline", str(base), "--candidate", str(candidate)]

    return write


def verdicts(argv):
    """(case, metric) -> verdict, for all that is not `same`."""
    found = gate(argv[2], argv[4]).cases
    return {(c.case_id.rpartition("_")[2], c.metric): c.decision.verdict for c in found if c.decision.verdict != "same"}


def test_nothing_changed_is_a_pass(runs, capsys):
    argv = runs(times(seed=1), times(seed=2))
    assert main(argv) == Exit.PASS
    assert verdicts(argv) == {}
    assert capsys.readouterr().out == "pass: 3 same\n"


def test_only_the_case_that_became_slower_turns_red(runs, capsys):
    names = [f"C{i}" for i in range(10)]
    before = [row for name in names for row in times(name, seed=1)]
    after = [row for name in names for row in times(name, ms=11.0 if name == "C7" else 10.0, seed=2)]
    argv = runs(before, after)
    assert main(argv) == Exit.REGRESSION
    assert verdicts(argv) == {("C7", "time"): "slower"}
    assert "_C7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("after", "verdict", "code"),
    [
        (times(ms=9.0, seed=2), "faster", Exit.PASS),
        (times(seed=2, noise=0.1), "inconclusive", Exit.INCONCLUSIVE),
        (times(seed=2, launches=7), "inconclusive", Exit.INCONCLUSIVE),
        ([*times(seed=2, launches=7), failed(launch=7)], "broken", Exit.REGRESSION),
        ([failed(status="implausible", launch=i) for i in range(8)], "broken", Exit.REGRESSION),
    ],
)
def test_verdicts_and_exit_codes(runs, after, verdict, code):
    argv = runs(times(seed=1), after)
    assert main(argv) == code
    assert verdicts(argv) == {("C64", "time"): verdict}


def test_missing_new_and_unchanged_cases(runs):
    before = [*times(seed=1), *times("C32"), failed("C8"), failed("C4")]
    after = [*times(seed=2), *times("C16"), failed("C8"), *times("C4")]
    argv = runs(before, after)
    assert main(argv) == Exit.REGRESSION
    assert verdicts(argv) == {
        ("C32", "time"): "missing",
        ("C16", "time"): "new",
        ("C8", "time"): "unchanged",
        ("C4", "time"): "new",
    }


def test_one_launch_is_inconclusive_and_says_that_the_noise_is_unknown(runs, capsys):
    argv = runs(times(launches=1), times(launches=1, ms=20.0))
    assert main(argv) == Exit.INCONCLUSIVE
    assert (
        "1 of the 8 launches that each side needs; smallest change it could have seen: unknown"
        in capsys.readouterr().out
    )


def test_few_launches_say_what_they_could_have_seen(runs):
    (case, *_) = gate(*_sides(runs(times(launches=4, seed=1), times(launches=4, seed=2)))).cases
    assert case.decision.verdict == "inconclusive"
    assert 0.02 < (case.decision.smallest_detectable or 0) < 0.06


def _sides(argv):
    return argv[2], argv[4]


def test_memory_and_numerics_are_gated(runs):
    argv = runs(times(seed=1), times(seed=2, memory_mib=12.0, check={"o": 9e-5, "dq": 2e-6}))
    assert main(argv) == Exit.REGRESSION
    assert verdicts(argv) == {("C64", "memory"): "slower", ("C64", "error"): "slower"}


def test_figures_that_can_not_be_compared_are_inconclusive(runs):
    argv = runs(times(seed=1), times(seed=2, memory_method="profiler", check_T=32))
    assert main(argv) == Exit.INCONCLUSIVE
    assert verdicts(argv) == {("C64", "memory"): "inconclusive", ("C64", "error"): "inconclusive"}


def test_check_records_are_gated_by_error_and_static_ones_by_status(runs):
    check, static = {"kind": "check", "mode": "cpu"}, {"kind": "static", "mode": "static", "device": "sm_90"}
    before = [record(**check), record("C32", **static), record("C16", **static)]
    after = [record(**check, check={"o": 8e-5, "dq": 2e-6}), record("C32", **static), failed("C16", **static)]
    argv = runs(before, after)
    assert verdicts(argv) == {("C64", "error"): "slower", ("C16", "static"): "broken"}


def test_a_fallen_clock_explains_a_longer_time(runs):
    clock = {"telemetry.sm_clock_mhz": 1980.0}
    fallen = {"telemetry.sm_clock_mhz": 1800.0}
    argv = runs(times(seed=1, **clock), times(ms=11.0, seed=2, **fallen))
    assert main(argv) == Exit.INCONCLUSIVE
    assert verdicts(argv) == {("C64", "time"): "inconclusive"}


def test_nothing_to_judge_is_no_pass(runs, capsys):
    assert main(runs([], times())) == Exit.INCONCLUSIVE
    assert capsys.readouterr().out.endswith("inconclusive: 1 new\n")


def test_other_environments_are_refused_unless_allowed(runs, capsys, tmp_path):
    argv = [*runs(times(seed=1), times(seed=2, device="Other GPU"), device="Other GPU", torch="2.9"), "--json"]
    out = tmp_path / "gate.json"
    assert main([*argv, str(out)]) == Exit.INCOMPARABLE
    refused = json.loads(out.read_text())
    assert (refused["exit"], refused["cases"]) == (4, [])
    assert "torch: 2.13.0 against 2.9" in capsys.readouterr().err
    assert main([*argv, str(out), "--allow-env-mismatch"]) == Exit.PASS
    allowed = json.loads(out.read_text())
    assert allowed["environment"] == {
        "match": False,
        "allowed": True,
        "differences": [
            {"field": "device", "base": "Test CPU", "candidate": "Other GPU"},
            {"field": "torch", "base": "2.13.0", "candidate": "2.9"},
        ],
    }
    assert "environments differ: torch: 2.13.0 against 2.9" in capsys.readouterr().out


def test_an_empty_fingerprint_matches_nothing(runs):
    argv = runs(times(seed=1), times(seed=2))
    for run in _sides(argv):
        Path(run, "environment.json").write_text('{"schema": "1.0", "fingerprint": {}}')
    assert main(argv) == Exit.INCOMPARABLE


def test_the_margin_flag_is_in_per_cent(runs):
    argv = runs(times(seed=1), times(ms=11.0, seed=2))
    assert main([*argv, "--margin", "15"]) == Exit.PASS
    assert main([*argv, "--margin", "-1"]) == Exit.USAGE
    assert main([*argv, "--margin", "nan"]) == Exit.USAGE


def test_usage_errors_are_one_line(runs, capsys, tmp_path):
    argv = runs(times(seed=1), times(seed=2))
    assert main(["gate", "--baseline", str(tmp_path / "no"), "--candidate", argv[4]]) == Exit.USAGE
    assert main([*argv, "--json", str(tmp_path / "no" / "gate.json")]) == Exit.USAGE
    records = tmp_path / "after" / "records.jsonl"
    records.write_bytes(b"{}\n" + records.read_bytes())
    assert main(argv) == Exit.USAGE
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "no run at" in lines[0]
    assert "gate.json: No such file" in lines[1]
    assert "records.jsonl:1: " in lines[2]


def test_json_is_the_contract(runs, tmp_path):
    argv = runs([*times(seed=1), *times("C32")], [*times(ms=11.0, seed=2), failed("C32")])
    assert main([*argv, "--json", str(tmp_path / "gate.json")]) == Exit.REGRESSION
    report = json.loads((tmp_path / "gate.json").read_text(), parse_constant=pytest.fail)
    assert list(report) == ["schema", "exit", "base", "candidate", "environment", "cases"]
    assert report["exit"] == 1
    assert report["base"] == {"run": argv[2], "commit": "0123abc", "no_commit": ""}
    assert all(list(case) == KEYS for case in report["cases"])
    slower = report["cases"][0]
    assert (slower["verdict"], slower["metric"], slower["margin"], slower["rounds"]) == ("slower", "time", 0.02, 8)
    assert 1.02 < slower["lower"] < slower["ratio"] < slower["upper"] < 1.2
    assert [case["verdict"] for case in report["cases"] if "C32" in case["case_id"]] == ["broken"]


def test_markdown_holds_untrusted_text_in_its_cell(runs, tmp_path):
    argv = runs(times(seed=1), [failed(reason=NASTY)])
    main([*argv, "--markdown", str(tmp_path / "gate.md")])
    (row,) = [line for line in (tmp_path / "gate.md").read_text().splitlines() if line.startswith("| broken")]
    assert row.replace("\\|", "").count("|") == 6
    assert "<script>" not in row.replace("\\<", "")


def test_junit_parses_and_counts(runs, tmp_path):
    before = [*times(seed=1), *times("C32", seed=1), *times("C16", seed=1)]
    argv = runs(before, [failed(reason=NASTY), *times("C32", seed=2, noise=0.1), *times("C16", seed=2)])
    main([*argv, "--junit", str(tmp_path / "gate.xml")])
    suite = ET.parse(tmp_path / "gate.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("7", "1", "1")
    assert len(suite.findall("testcase")) == 7
    (failure,) = suite.iter("failure")
    assert "alert(1)" in (failure.get("message") or "")
    assert len(list(suite.iter("skipped"))) == 1


def test_junit_of_other_environments_is_an_error(runs, tmp_path):
    argv = [*runs(times(seed=1), times(seed=2), torch="2.9"), "--junit", str(tmp_path / "gate.xml")]
    main(argv)
    assert ET.parse(tmp_path / "gate.xml").getroot().get("errors") == "1"
    main([*argv, "--allow-env-mismatch"])
    allowed = ET.parse(tmp_path / "gate.xml").getroot()
    assert allowed.get("errors") == "0"
    assert "torch" in (next(allowed.iter("property")).get("value") or "")
