"""One definition of the standard axes: what is added to it arrives everywhere, and nothing else names them all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from suite.axes import standard_axes
from suite.discovery import ROOT
from suite.problem import STANDARD, Problem
from suite.store import tables
from suite.store.columns import COLUMNS, REQUIRED
from suite.store.schema import upgraded
from tests.suite.plugins import RUNNING_MEAN, write

BEFORE = "    axes: tuple[tuple[str, Value], ...] = ()\n"
ADDED = """\
    G: int = standard(1, kind="size", flag="--gate-dim", help="elements of a gate", since="9.0")
    gate_dtype: str = standard("float32", kind="dtype", flag="--gate-dtype", help="dtype of gates", since="9.0")
    rounding: str = standard("near", kind="name", flag="--rounding", help="how sums are rounded", since="9.0")
    masked: bool = standard(False, kind="flag", flag="--masked", help="whether tokens are masked", since="9.0")
"""
# What a run of the copy must say of the four axes above.
SEEN = """
import argparse, shlex, sys
from pathlib import Path

from suite.cli.runs import CHOOSING
from suite.cli.selection import add_selection, selected
from suite.cli import main
from suite.discovery import discover
from suite.measuring.records import base_record
from suite.problem import Problem
from suite.reporting.data.frame import read, normalise
from suite.reporting.data.groups import gather
from suite.reporting.data.reproducing import command
from suite.store import read_records, tables

plugin, run, preset = sys.argv[1:]
given = {"G": 2, "gate_dtype": "bf16", "rounding": "down", "masked": True}
problem = Problem(**given)
assert problem.columns()["gate_dtype"] == "bfloat16"
assert Problem.from_columns(problem.columns()) == problem

flags = ["--gate-dim", "1,2", "--gate-dtype", "fp32,bf16", "--rounding", "near,down", "--masked", "no,yes"]
words = ["--load", plugin, "--op", "running_mean", "--seq-len", "16", "--pass", "fwd", "--dtype", "fp32"]
words += ["--head-dim", "4", "--heads", "1"]
parser = argparse.ArgumentParser()
add_selection(parser)
registry = discover(Path(), [plugin])
_, groups = selected(parser.parse_args([*words, *flags]), registry, "smoke")
cases = [case for group in groups for case in group.cases]
assert len(cases) == len({case.case_id for case in cases}) == len({case.problem_id for case in cases}) == 16
assert cases[-1].problem_id.endswith("_G-2_gate_dtype-bfloat16_rounding-down_masked"), cases[-1].problem_id
assert {"G", "gate_dtype", "rounding", "masked"} <= set(CHOOSING)

Path(preset).write_text("[[sweep]]\\nG = [2]\\ngate_dtype = ['bf16']\\nrounding = ['down']\\nmasked = [true]\\n")
assert selected(parser.parse_args([*words, "--preset", preset]), registry, "smoke")[1][0].cases[0].problem.masked

assert main(["check", *words, *flags, "--device", "cpu", "--out", run]) == 0
records = read_records(run)
assert len(records) == 16 and {record["G"] for record in records} == {1, 2}
timed = [{**record, "kind": "timed", "status": "error"} for record in records]
rows = normalise(read([run]))
for row in rows:
    row["kind"] = "timed"
found = gather(rows)
assert len(found) == 16, "the report merges problems into one point"
titles = {group.setting.title for group in found}
assert len(titles) == 16
assert any("G 2, gate dtype bfloat16, rounding down, masked" in title for title in titles), titles

again = shlex.split(command(next(row for row in rows if row["masked"] and row["G"] == 2)))
assert "--masked yes" in " ".join(again) and "G=2" in " ".join(again)

table = tables.table("always")
for name, text in (("G", "elements of a gate"), ("masked", "whether tokens are masked")):
    assert f"| `{name}` |" in table and text in table
print("seen")
"""


def test_an_axis_that_is_added_to_the_definition_arrives_everywhere(tmp_path: Path) -> None:
    """Four axes, one of each kind, are added to a copy of the suite, in one place."""
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT / "suite", copy / "suite", ignore=shutil.ignore_patterns("__pycache__"))
    for package in ("kernels", "baselines"):
        (copy / package).mkdir()
        (copy / package / "__init__.py").write_text("")
    definition = copy / "suite" / "problem.py"
    text = definition.read_text()
    assert text.count(BEFORE) == 1
    definition.write_text(text.replace(BEFORE, ADDED + BEFORE))
    plugin = write(tmp_path, RUNNING_MEAN, "mean_plugin.py")
    words = [sys.executable, "-c", SEEN, str(plugin), str(tmp_path / "run"), str(tmp_path / "more.toml")]
    done = subprocess.run(words, cwd=copy, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("seen\n"), done.stderr


def test_a_record_of_an_older_schema_has_the_axis_at_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    monkeypatch.setitem(STANDARD, "masked", replace(STANDARD["initial_state"], name="masked", since="9.0"))
    old = {"operator": "toy", "implementation": "one", "case_id": "toy/one/B1_T8_C64_deep-2", "tunable.chunk": 64}
    found = upgraded({**old, "tunable.deep": 2})
    assert (found["masked"], found["problem_id"]) == (False, "toy/B1_T8")
    assert upgraded({**found, "masked": True})["masked"] is True


def test_the_standard_axes_are_columns_of_every_record() -> None:
    assert standard_axes(Problem) == STANDARD
    assert set(STANDARD) <= set(REQUIRED)
    names = [name for each in COLUMNS for name in each.names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", tables.PAGES)
def test_the_tables_of_the_documentation_are_those_of_the_definition(name: str) -> None:
    """Write them again with `python -m suite.store.tables`."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert "<!-- columns: " in text
    assert tables.filled(text) == text
