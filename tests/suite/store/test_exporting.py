"""Export: the same rows in another format."""

from __future__ import annotations

import csv
import json
import sys

import pandas as pd
import pytest

from suite.cli import main
from suite.errors import Exit
from tests.suite.store.runs import failed, record, write_run


@pytest.fixture
def run(tmp_path):
    mixed = [record("C1", **{"axis.window": 128}), record("C2", **{"axis.window": "none"})]
    return write_run(tmp_path / "run", [*mixed, failed("C3", **{"tunable.chunk": None})])


@pytest.mark.parametrize(("to", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_tables_hold_every_row_and_nested_values_as_json(run, capsys, to, read):
    if to == "parquet":
        pytest.importorskip("pyarrow")
    assert main(["export", str(run), "--to", to]) == Exit.PASS
    assert capsys.readouterr().out == f"{run / f'records.{to}'}\n"
    frame = read(run / f"records.{to}")
    assert frame["case_id"].str[-2:].tolist() == ["C1", "C2", "C3"]
    assert json.loads(frame["check"][0]) == {"o": 1e-6, "dq": 2e-6}
    assert json.loads(frame["tags"][1]) == ["linear", "decay"]
    assert frame["time_ms"].isna().tolist() == [False, False, True]
    assert frame["axis.window"].tolist()[:1] in (["128"], [128])
    assert "64.0" not in (run / f"records.{to}").read_bytes().decode(errors="replace")


def test_json_is_one_array_of_the_records(run, tmp_path, capsys):
    out = tmp_path / "out.json"
    assert main(["export", str(run), "--to", "json", "--out", str(out)]) == Exit.PASS
    rows = json.loads(out.read_text())
    assert [row["case_id"][-2:] for row in rows] == ["C1", "C2", "C3"]
    assert rows[0]["check"] == {"o": 1e-6, "dq": 2e-6}
    assert str(out) in capsys.readouterr().out


@pytest.mark.parametrize("to", ["csv", "parquet", "json"])
def test_a_run_without_records_is_exported(tmp_path, to):
    run = write_run(tmp_path / "run", [])
    assert main(["export", str(run), "--to", to]) == Exit.PASS
    assert (run / f"records.{to}").exists()


def test_parquet_without_pyarrow_says_how_to_install_it(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["export", str(run), "--to", "parquet"]) == Exit.USAGE
    assert "pip install 'pyarrow>=15'" in capsys.readouterr().err


def test_what_can_not_be_written_or_read_is_one_line(run, tmp_path, capsys):
    assert main(["export", str(run), "--to", "csv", "--out", str(tmp_path / "no" / "x.csv")]) == Exit.USAGE
    assert main(["export", str(run), "--to", "csv", "--out", str(run)]) == Exit.USAGE
    assert not list(tmp_path.glob(".*")), "a draft was left behind"
    assert main(["export", str(run), "--to", "xml"]) == Exit.USAGE
    (run / "records.jsonl").write_text("oops\n")
    assert main(["export", str(run), "--to", "csv"]) == Exit.USAGE
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert "cannot write" in lines[0]
    assert "cannot write" in lines[1]
    assert "records.jsonl:1: " in lines[3]
    assert not list(run.glob("*.csv"))


FORMULAS = ["=1+1", "@SUM(A1)", "+1", "-1+2", "\t=1", "\r=1", "\uff1d1"]


def test_text_that_a_spreadsheet_would_compute_is_quoted_and_numbers_stay(tmp_path):
    rows = [failed(f"C{i}", reason=text) | {"axis.window": -8 if i else text} for i, text in enumerate(FORMULAS)]
    run = write_run(tmp_path / "run", [{**row, "=cmd()": "x", "telemetry.temperature_c": -5.5} for row in rows])
    assert main(["export", str(run), "--to", "csv"]) == Exit.PASS
    with (run / "records.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [row["reason"] for row in read] == ["'" + text.replace("\r", "\n") for text in FORMULAS]
    assert [row["axis.window"] for row in read] == ["'=1+1"] + ["-8"] * 6
    assert {row["telemetry.temperature_c"] for row in read} == {"-5.5"}
    assert "'=cmd()" in read[0]
    assert "=cmd()" not in read[0]
    assert main(["export", str(run), "--to", "json"]) == Exit.PASS
    assert [row["reason"] for row in json.loads((run / "records.json").read_text())] == FORMULAS
    assert "crc" not in read[0]
