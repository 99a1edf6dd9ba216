"""Published timings as cases, and the command that compares them with predictions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from suite.cli import main
from suite.discovery import discover
from suite.errors import UsageError
from suite.registry import Registry
from suite.static.model import Floor, Launch, Prediction, Profile
from suite.static.tasks import Task
from suite.validating.published import comparable, points, task_of, why_not
from tests.suite.validating.test_judging import point

pytest.importorskip("fla")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, ""),
        ({"note": "about 0.21 ms is the host's"}, "it is bound by the host"),
        ({"implementation": ""}, "its implementation is not registered here"),
        ({"implementation": "no_such"}, "its implementation is not registered here"),
        ({"operator": "no_such"}, "its implementation is not registered here"),
        ({"gpu": "NVIDIA H20"}, "there is no machine table for NVIDIA H20"),
        ({"gpu": "unknown"}, "there is no machine table for unknown"),
        ({"dtype": "unknown"}, "its dtype is not stated"),
        ({"lengths": "100+200"}, "it is of several packed sequences"),
    ],
)
def test_what_cannot_be_compared(registry: Registry, values: dict[str, str], reason: str) -> None:
    assert why_not(point(1.0, **values), registry) == reason


def test_the_case_of_a_timing(registry: Registry) -> None:
    task = task_of(point(1.0, H="2", HV="8", operator="gated_delta_rule", options="initial and final state"), registry)
    assert task.case.case_id == "gated_delta_rule/fla_chunk/B1_T1024_H2_HV8_K64_V64_bf16_fwd_h0"
    assert (task.arch, task.gpu, task.issued) == ("sm_90", "NVIDIA H200", False)
    assert task_of(point(1.0, gpu="A100", dtype="fp16"), registry).gpu == "NVIDIA A100-SXM4-80GB"
    assert not task_of(point(1.0), registry).case.problem.initial_state


def test_all_published_timings_are_read_and_many_can_be_compared(registry: Registry) -> None:
    found = points()
    good, left = comparable(found, registry)
    assert len(good) + sum(left.values()) == len(found)
    assert len(good) > 150
    assert {point.row["operator"] for point in good} >= {"gated_delta_rule", "retention", "linear_attention"}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("0.5", "fast", "'fast'"),
        ("0.5", "-1", "ms is -1"),
        ("0.5", "nan", "ms is nan"),
        (",64,", ",many,", "'many'"),
        (",64,", ",0,", "H is 0"),
        (",fwd,", ",forward,", "pass is forward"),
        (",HV,", ",heads,", "'HV'"),
        (",0,u,", ",2,u,", "held_out is 2"),
        (",bf16", "", "missing"),
        ("gpu\n", "gpu\udcff\n", "utf-8"),
    ],
)
def test_a_damaged_file_is_named(old: str, new: str, told: str, tmp_path: Path) -> None:
    text = (
        "source,implementation,operator,pass,B,T,H,HV,K,V,ms,held_out,url,note,options,lengths,dtype,gpu\n"
        "s,fla_chunk,retention,fwd,1,8,64,64,32,32,0.5,0,u,,,,bf16,NVIDIA H200\n"
    )
    (tmp_path / "some.csv").write_text(text)
    assert len(points(tmp_path)) == 1
    (tmp_path / "some.csv").write_text(text.replace(old, new, 1), errors="surrogateescape")
    with pytest.raises(UsageError, match=r"some\.csv: line [12] or what follows is damaged") as raised:
        points(tmp_path)
    assert told in str(raised.value)


def test_an_installation_without_results_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="published timings come with a checkout"):
        points(tmp_path / "published")


def _profiles(tasks: Sequence[Task], **_: Any) -> list[Profile]:
    def made(task: Task) -> Profile:
        launch = Launch("k", (1, 1, 1), predicted=Prediction(0.5, "memory"))
        return Profile(task.case.case_id, task.arch, launches=(launch,), floor=Floor("", "", 1, 0.1, 0.0, 0.1))

    return [made(task) for task in tasks]


def test_the_command_prints_families_the_worst_and_what_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("suite.static.pool.take_profiles", _profiles)
    words = ["validate", "--gpu", "h100", "--op", "retention", "--part", "seen"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "retention/fla_chunk" in shown
    assert "NVIDIA H100 80GB HBM3" in shown
    assert "Furthest from their prediction" in shown
    assert "Held-out timings" not in shown
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {each["name"] for each in found["families"]} == {"retention/fla_chunk"}
    ratios = sorted(float(each["ms"]) / 0.5 for each in found["points"] if each["pass"] == "fwd")
    family = next(each for each in found["families"] if each["pass_"] == "fwd")
    assert family["count"] == len(ratios)
    assert ratios[0] <= family["median"] <= ratios[-1]
    assert main([*words, "--format", "md"]) == 0
    assert "| retention/fla_chunk | NVIDIA H100 80GB HBM3 | fwd |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--op", "no_such"], "no published timing has --op no_such; there are delta_rule, "),
        (["--gpu", "H777"], "no published timing has --gpu H777; there are A100, "),
        (
            ["--op", "retention", "--pass", "decode"],
            "has all of --op retention --pass decode --part all; ",
        ),
        (["--write", "--op", "retention"], "--write takes all timings"),
    ],
)
def test_the_command_refuses_in_one_line(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", *words]) == 2
    shown = capsys.readouterr()
    assert told in shown.err
    assert shown.err.count("\n") == 1


def test_the_page_and_the_spreads_agree() -> None:
    """Each family of the page with four timings or more has its spread in the file, rounded."""
    from suite.discovery import ROOT
    from suite.static.timing.uncertainty import FILE

    page = (ROOT / "docs" / "predicted-time.md").read_text().partition("### Timings that may be looked at")[2]
    table = page.partition("###")[0]
    spreads = {(row["name"], row["arch"], row["pass"]): row for row in json.loads(FILE.read_text())["families"]}
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "/" in line]
    assert rows
    for name, _, pass_, count, *_ in rows:
        assert sum(row["count"] for key, row in spreads.items() if (key[0], key[2]) == (name, pass_)) >= int(count)
