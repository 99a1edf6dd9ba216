"""Compare: what changed between two stored runs, sorted, and its exit codes."""

from __future__ import annotations

import json

import pytest

from suite.cli import main
from suite.compare import Time, compare, judge
from suite.errors import Exit, IncomparableError
from tests.suite.store.runs import failed, record, write_run


def timed(name, ms, **changes):
    return record(name, time_ms=ms, ci_low_ms=0.99 * ms, ci_high_ms=1.01 * ms, **changes)


@pytest.fixture
def runs(tmp_path):
    def write(before, after, **fingerprint):
        return [
            "compare",
            str(write_run(tmp_path / "before", before)),
            str(write_run(tmp_path / "after", after, **fingerprint)),
        ]

    return write


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (Time(10, 9.9, 10.1), Time(10.4, 10.3, 10.5), "same"),
        (Time(10, 9.9, 10.1), Time(10.6, 10.5, 10.7), "slower"),
        (Time(10, 9.9, 10.4), Time(10.6, 10.3, 10.7), "inconclusive"),
        (Time(10, 9.9, 10.1), Time(9.4, 9.3, 9.5), "faster"),
        (Time(10, 9.3, 10.1), Time(9.4, 9.2, 9.5), "inconclusive"),
    ],
)
def test_a_change_counts_beyond_the_threshold_with_disjoint_intervals(before, after, verdict):
    assert judge(before, after, 0.05).verdict == verdict


def test_the_largest_change_comes_first_and_lost_cases_before_all(runs):
    names = ["C1", "C2", "C3", "C4", "C5"]
    before = [timed(name, 10.0) for name in names]
    after = [timed("C1", 10.1), timed("C2", 12.0), failed("C3"), timed("C4", 4.0), timed("C6", 1.0)]
    _, a, b = runs(before, after)
    found = [(each.key.case_id[-2:], *(d.verdict for d in each.decisions.values())) for each in compare(a, b).changes]
    assert found[:4] == [
        ("C3", "broken"),
        ("C5", "missing"),
        ("C4", "faster", "same", "same"),
        ("C2", "slower", "same", "same"),
    ]
    assert {each[0] for each in found[4:]} == {"C1", "C6"}


def test_launches_are_one_figure_with_the_hull_of_their_intervals(runs):
    before = [timed("C1", ms, launch=i) for i, ms in enumerate((10.0, 11.0, 12.0))]
    _, a, b = runs(before, [timed("C1", 11.0)])
    (change,) = compare(a, b).changes
    assert change.before == Time(11.0, pytest.approx(9.9), pytest.approx(12.12))
    assert change.replicates == (3, 1)


@pytest.mark.parametrize(
    ("after", "code"),
    [
        ([timed("C1", 10.2)], Exit.PASS),
        ([timed("C1", 9.0)], Exit.PASS),
        ([timed("C1", 12.0)], Exit.REGRESSION),
        ([record("C1", time_ms=12.0, ci_low_ms=9.0, ci_high_ms=13.0)], Exit.INCONCLUSIVE),
        ([failed("C1")], Exit.REGRESSION),
        ([timed("C1", 10.0, memory_mib=20.0)], Exit.REGRESSION),
        ([timed("C1", 10.0, check={"o": 9e-5, "dq": 2e-6})], Exit.REGRESSION),
        ([timed("C2", 10.0)], Exit.REGRESSION),
    ],
)
def test_fail_returns_the_contracts_codes_and_nothing_else_does(runs, after, code):
    argv = runs([timed("C1", 10.0)], after)
    assert main([*argv, "--fail"]) == code
    assert main(argv) == Exit.PASS


def test_the_threshold_is_in_per_cent(runs):
    argv = [*runs([timed("C1", 10.0)], [timed("C1", 12.0)]), "--fail"]
    assert main([*argv, "--threshold", "25"]) == Exit.PASS
    assert main([*argv, "--threshold", "150"]) == Exit.USAGE


def test_other_environments_are_refused_unless_allowed_and_then_named_first(runs, capsys):
    argv = runs([timed("C1", 10.0)], [timed("C1", 12.0)], torch="2.9", threads=8)
    assert main(argv) == Exit.INCOMPARABLE
    (line,) = capsys.readouterr().err.splitlines()
    assert "torch: 2.13.0 against 2.9; threads: 2 against 8" in line
    assert "--allow-env-mismatch" in line
    assert main([*argv, "--allow-env-mismatch"]) == Exit.PASS
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "environments differ: torch: 2.13.0 against 2.9",
        "environments differ: threads: 2 against 8",
    ]
    with pytest.raises(IncomparableError):
        compare(*argv[1:])


def test_cases_of_two_devices_are_matched_where_that_is_allowed(runs):
    before, after = timed("C1", 10.0, device="H100"), timed("C1", 5.0, device="H200")
    static = {"kind": "static", "mode": "static"}
    statics = [record("C1", device=device, **static) for device in ("sm_80", "sm_90")]
    _, a, b = runs([before, *statics], [after, *statics], device="H200")
    changes = compare(a, b, allow_env_mismatch=True).changes
    assert [(each.key.device, each.replicates) for each in changes] == [
        ("H100", (1, 1)),
        ("sm_80", (1, 1)),
        ("sm_90", (1, 1)),
    ]


def test_json_holds_every_case(runs, capsys):
    argv = runs([timed("C1", 10.0), failed("C2")], [timed("C1", 12.0), failed("C2")])
    assert main([*argv, "--json", "--fail"]) == Exit.REGRESSION
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (found["exit"], found["threshold"], len(found["cases"])) == (1, 0.05, 2)
    assert found["cases"][0]["changes"]["time"] == {
        "verdict": "slower",
        "reason": "10 ms before, 12 now",
        "ratio": pytest.approx(1.2),
    }
    assert found["cases"][1]["changes"]["status"]["verdict"] == "unchanged"


def test_lines_show_both_intervals_and_hold_untrusted_text(runs, capsys):
    after = [timed("C1", 12.0), failed("C2", reason="two\nlines\tand \x1b[31mcolour")]
    main(runs([timed("C1", 10.0), timed("C2", 10.0)], after))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "x1.200\t10 [9.9, 10.1]\t12 [11.88, 12.12]" in lines[2]
    assert lines[1].startswith("broken\t")
    assert all(line.count("\t") == 8 for line in lines[:3])
    assert "\x1b" not in "".join(lines)
    assert lines[3] == "2 changed, 0 the same (time within 5 %)"
