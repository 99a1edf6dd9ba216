import base64
import itertools
import shlex

import pytest

from suite.cli import parser
from suite.cli.selection import selection_of
from suite.reporting.data.casedata import LEAST, cases_of, columns, details, thinned
from suite.reporting.data.frame import normalise
from suite.reporting.data.reproducing import command
from suite.reporting.renderers.packing import packed, sane
from tests.suite.reporting.synthetic import failed, record, run_of, static


def table(*rows, runs=1):
    found = [run_of(list(rows), f"run{i}") for i in range(runs)]
    return {column["name"]: column for column in columns(normalise(found), found)}


def test_texts_are_kept_once_figures_rounded_and_what_is_missing_is_null():
    found = table(record("a", "x", 128, time_ms=1 / 3), failed("a", "y", 256, "oom", "no memory"))
    assert (found["operator"]["words"], found["operator"]["at"]) == (["a"], [0, 0])
    assert found["time_ms"]["values"] == [0.333333, None]
    assert (found["T"]["kind"], found["T"]["values"]) == ("count", [128.0, 256.0])
    assert found["dtype"]["words"] == ["fp32"]
    assert found["status"]["choose"] is True


def test_columns_that_nothing_fills_are_left_out_and_the_run_is_there_only_when_there_are_several():
    found = table(record("a", "x", 128))
    assert not {"profile.dram_bytes", "telemetry.energy_j_token", "axes", "kind", "origin", "run"} & set(found)
    assert table(record("a", "x", 128), runs=2)["run"]["words"] == ["run0", "run1"]


def test_a_detail_has_what_the_table_has_not_and_where_samples_were_thinned_their_number(monkeypatch):
    monkeypatch.setattr("suite.reporting.data.casedata.MOST_SAMPLES", 1000)
    monkeypatch.setattr("suite.reporting.data.casedata.BLOCK", 4)
    run = run_of([record("a", "x", 128, samples=[float(i) for i in range(200)])] * 10)
    blocks = list(details(normalise([run]), [run]))
    assert [len(block["check"]) for block in blocks] == [4, 4, 2]
    first = {name: values[0] for name, values in blocks[0].items()}
    assert first["samples_taken"] == 200
    assert (len(first["samples"]), first["samples"][0], first["samples"][-1]) == (100, 0.0, 199.0)
    assert "time_ms" not in first
    assert first["check"] == {"o": 1e-6}


def test_a_case_has_its_static_profile_beside_and_another_case_has_not():
    short, long = record("a", "x", 128), record("a", "x", 256)
    run = run_of([short, long, static("a", "x", 128) | {"case_id": short["case_id"], "static.registers": 168}])
    rows = cases_of(normalise([run]))
    assert [(row["kind"], row["T"]) for row in rows] == [("timed", 128), ("timed", 256)]
    (block,) = details(rows, [run])
    assert block["static.registers"] == [168, None]
    assert block["static.arch"] == ["sm_90", None]


def test_thinning_is_even_and_keeps_both_ends():
    assert thinned([3, 1, 2], LEAST) == [3, 1, 2]
    kept = thinned(list(range(1000)), 10)
    assert (len(kept), kept[0], kept[-1]) == (10, 0, 999)
    assert {b - a for a, b in itertools.pairwise(kept)} == {111}


def test_what_json_can_not_hold_becomes_a_word_and_the_same_data_the_same_text():
    odd = {"nan": float("nan"), "inf": [float("-inf")], "deep": {"x": "y" * 10_000}, "set": {1}}
    kept = sane(odd)
    assert (kept["nan"], kept["inf"], kept["set"]) == ("nan", ["-inf"], "{1}")
    assert len(kept["deep"]["x"]) < 5000
    assert packed(kept) == packed(sane(odd))
    # The date in a gzip header, without which two renderings of a run would differ.
    assert base64.b64decode(packed(kept))[4:8] == bytes(4)


def selected(line):
    """The command's words as its own parser reads them."""
    program, name, *words = shlex.split(line)
    assert program == "subquad"
    args = parser(name).parse_args([name, *words])
    return name, args, selection_of(args)


@pytest.mark.parametrize("kind", ["timed", "check", "static"])
def test_the_command_selects_the_case_again(kind):
    row = static("a", "x", 300, "sm_80") if kind == "static" else record("a", "x", 300, kind=kind)
    row |= {"V": 32, "HV": 8, "tunable.chunk": 64, "axis.causal": False, "axis.map": "elu+1", "initial_state": True}
    row |= {"layout": "packed:even8", "state_dtype": "bfloat16", "pass": "bwd"}
    row |= {"mode": "cpu"} if kind == "check" else {}
    (tidied,) = normalise([run_of([row])])
    name, args, chosen = selected(command(tidied, ["bench", "--load", "my file.py", "--preset", "gpu"]))
    assert name == {"timed": "bench", "check": "check", "static": "static"}[kind]
    assert (chosen.operators, chosen.implementations, args.load) == (("a",), ("x",), ["my file.py"])
    assert chosen.shapes == ({"B": 1, "T": 300, "H": 4, "HK": 4, "HV": 8, "K": 64, "V": 32},)
    assert chosen.values["dtype"] == ("float32",)
    assert chosen.values["initial_state"] == (True,)
    assert chosen.values["layout"] == ("packed:even8",)
    assert chosen.axes == {"causal": (False,), "map": ("elu+1",)}
    assert chosen.tunables == {"chunk": (64,)}
    how = {"timed": ("mode", ("warm-cpu",)), "check": ("device", "cpu"), "static": ("arch", "sm_80")}[kind]
    assert getattr(args, how[0]) == how[1]
