"""The analysis of stored runs whose ratios, floors and losses are known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from suite.analysis.comparisons import contests
from suite.analysis.entries import entries
from suite.analysis.floors import standings
from suite.analysis.losses import losses
from suite.analysis.page import page
from suite.cli import main
from tests.suite.reporting.synthetic import H200, failed, record, static, stored

GPU = {"mode": "cold-events", "device": "NVIDIA H200", "dtype": "bfloat16"}
LENGTHS = (1024, 2048, 4096, 8192)


def timed(name: str, T: int, ms: float, origin: str, **changes: Any) -> dict[str, Any]:
    return record("linear_attention", name, T, time_ms=ms, origin=origin, **GPU, **changes)


def duel(ours: float, theirs: float) -> list[dict[str, Any]]:
    """Ours and a peer at four lengths, T / 1024 times so many ms; the peer refuses the longest."""
    rows = []
    for T in LENGTHS:
        rows.append(timed("triton_chunk", T, ours * T / 1024, "ours"))
        if LENGTHS[-1] > T:
            rows.append(timed("fla_chunk", T, theirs * T / 1024, "peer"))
        else:
            row = failed("linear_attention", "fla_chunk", T, "unsupported", "takes no such T", origin="peer", **GPU)
            rows.append(row)
    return rows


def profiled(T: int, floor: float, name: str = "triton_chunk", **changes: Any) -> dict[str, Any]:
    row = static("linear_attention", name, T, origin="ours", dtype="bfloat16")
    row["case_id"] = row["case_id"].removesuffix("_sm_90")
    return row | {"static.floor_ms": floor, "static.floor_bytes": 1e6} | changes


def test_a_contest_counts_what_both_serve_and_names_what_the_peer_refuses() -> None:
    [met] = contests(entries(duel(ours=1.0, theirs=1.5)))
    assert (met.rival, met.won, met.refused, met.reason) == ("fla_chunk", 3, 1, "unsupported: takes no such T")
    assert met.ratios == pytest.approx((1.5, 1.5, 1.5))
    assert met.mean == pytest.approx(1.5)


def test_the_mean_of_ratios_is_geometric() -> None:
    rows = [timed("triton_chunk", T, 1.0, "ours") for T in (1024, 2048)]
    rows += [timed("fla_chunk", 1024, 4.0, "peer"), timed("fla_chunk", 2048, 0.25, "peer")]
    [met] = contests(entries(rows))
    assert (met.mean, met.won) == (pytest.approx(1.0), 1)


def test_the_best_tunable_of_each_side_counts() -> None:
    def chunked(name: str, chunk: int, ms: float, origin: str) -> dict[str, Any]:
        row = timed(name, 1024, ms, origin, **{"tunable.chunk": chunk})
        return row | {"case_id": f"{row['case_id']}_C{chunk}"}

    rows = [chunked("triton_chunk", 64, 3.0, "ours"), chunked("triton_chunk", 128, 2.0, "ours")]
    rows += [chunked("fla_chunk", 64, 5.0, "peer"), chunked("fla_chunk", 32, 4.0, "peer")]
    assert len({row["problem_id"] for row in rows}) == 1
    [met] = contests(entries(rows))
    assert met.ratios == (2.0,)


def test_launches_are_one_entry_and_one_that_failed_is_no_time() -> None:
    rows = [timed("triton_chunk", 1024, ms, "ours", launch=i) for i, ms in enumerate((1.0, 3.0, 2.0))]
    [one] = entries(rows)
    assert one.time_ms == 2.0
    crashed = failed("linear_attention", "triton_chunk", 1024, "crashed", "signal 11", origin="ours", launch=3, **GPU)
    [one] = entries([*rows, crashed])
    assert (one.status, math.isnan(one.time_ms)) == ("crashed", True)


def test_one_mode_is_taken() -> None:
    rows = [*duel(1.0, 1.5), timed("triton_chunk", 1024, 9.0, "ours") | {"mode": "cold-wall"}]
    assert len(entries(rows)) == 8
    assert [each.time_ms for each in entries(rows, "cold-wall")] == [9.0]


def test_times_stand_against_their_floors() -> None:
    rows = duel(1.0, 1.5) + [profiled(T, 0.5 * T / 1024) for T in LENGTHS]
    rows[0] |= {"profile.dram_bytes": 1.1e6}
    [standing] = standings(entries(rows))
    assert standing.above == pytest.approx((2.0, 2.0, 2.0))
    assert (standing.cases, standing.launches, standing.roof_pct) == (4, 3, 40.0)
    assert (standing.counted, standing.rank) == (pytest.approx(1.1), pytest.approx(1.0))


def test_floors_that_rank_the_other_way_round_are_told() -> None:
    rows = duel(1.0, 1.5) + [profiled(T, 100 / T) for T in LENGTHS]
    assert standings(entries(rows))[0].rank == pytest.approx(-1.0)
    few = [row for row in rows if row["T"] <= 2048]
    assert math.isnan(standings(entries(few))[0].rank)


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ({"static.floor_ms": 1.2}, {}, "its floor of 1.2 ms is above the peer's time"),
        ({"static.spill_bytes": 96}, {}, "it spills 96 bytes per thread"),
        ({"static.traffic_ratio": 3.0}, {"static.traffic_ratio": 1.5}, "launch traffic 3.00x against 1.50x"),
        ({"static.floor_ms": 0.5, "static.occupancy": 0.125}, {}, "4.0 times its floor at 12% occupancy"),
        ({"static.floor_ms": 0.5}, {}, "4.0 times its floor, and no spill"),
        ({}, {}, "nothing in the profiles explains it"),
    ],
)
def test_a_loss_says_what_the_profiles_know(ours: dict[str, Any], theirs: dict[str, Any], words: str) -> None:
    rows = [timed("triton_chunk", 2048, 2.0, "ours"), timed("fla_chunk", 2048, 1.0, "peer")]
    quiet = {"static.occupancy": 0.75}
    rows += [profiled(2048, 1.0, **quiet | ours), profiled(2048, 0.9, "fla_chunk", **theirs)]
    [lost] = losses(entries(rows))
    assert lost.ratio == 2.0
    assert any(words in each for each in lost.why), lost.why
    assert len(lost.why) == 1 or "floor of" in words


def test_many_launches_in_a_short_call_are_a_reason() -> None:
    rows = [timed("triton_chunk", 1024, 0.02, "ours"), timed("fla_chunk", 1024, 0.01, "peer")]
    for name, launches in (("triton_chunk", 5), ("fla_chunk", 2)):
        rows.append(profiled(1024, 0.005, name, **{"static.launches": launches}))
    [lost] = losses(entries(rows))
    assert any("5 launches against 2" in each for each in lost.why)


def test_a_tie_is_no_loss() -> None:
    assert not losses(entries([timed("triton_chunk", 1024, 1.01, "ours"), timed("fla_chunk", 1024, 1.0, "peer")]))


def test_the_page_has_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = duel(2.0, 1.0) + [profiled(T, T / 1024) for T in LENGTHS]
    run = stored(rows, tmp_path / "h200", **H200)
    notes = tmp_path / "notes.md"
    notes.write_text("Measured on a quiet evening.\n")
    assert main(["analyse", str(run), "--notes", str(notes), "--out", str(tmp_path / "README.md")]) == 0
    text = (tmp_path / "README.md").read_text()
    assert "NVIDIA H200, driver 570.0" in text
    assert "Measured on a quiet evening." in text
    refused = "unsupported: takes no such T"
    assert f"| linear_attention | fwd | fla_chunk | 0.50x | 0.50 to 0.50 | 0 of 3 | 1 | {refused} |" in text
    assert "| linear_attention/fla_chunk | unsupported | 1 | takes no such T |" in text
    assert text.count("| triton_chunk | ") == 3
    assert str(tmp_path / "README.md") in capsys.readouterr().out


def test_nothing_to_compare_is_said() -> None:
    text = page(entries([timed("triton_chunk", 1024, 1.0, "ours")]), [("run", {})])
    assert text.count("No problem has both a time of ours and a time of a peer.") == 2
    assert "`subquad static --run RUN` adds the profiles" in text
    assert "Every case has a time." in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mode", "cold-wall"], "no timed record of mode cold-wall; the runs have cold-events"),
        (["--notes", "nowhere.md"], "--notes nowhere.md cannot be read"),
        (["--out", "nowhere/README.md"], "cannot write nowhere/README.md"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stored(duel(1.0, 1.5), tmp_path / "h200", **H200)
    assert main(["analyse", str(run), *words]) != 0
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_two_machines_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [stored(duel(1.0, 1.5), tmp_path / "h200", **H200), stored(duel(1.0, 1.5), tmp_path / "cpu")]
    assert main(["analyse", *map(str, runs)]) == 2
    assert "the runs are of Example CPU, NVIDIA H200; analyse one machine at a time" in capsys.readouterr().err
