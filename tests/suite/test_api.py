"""The commands from Python do what the command line does, by the same flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.text import Text

import suite
import suite.api
from suite.api import arguments
from suite.cli import main, parser
from suite.errors import Exit, UsageError
from suite.store import read_records
from tests.suite.plugins import RUNNING_MEAN, write
from tests.suite.store.runs import record, write_run

SMALL = {"op": "running_mean", "seq_len": [8, 16], "head_dim": "4", "heads": 1, "dtype": "fp32", "pass_": "fwd"}


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    wrong = "running_mean.implementation('wrong', origin='ours', passes={'fwd'})(lambda q, k, v: (v * 2, None))\n"
    return write(tmp_path, RUNNING_MEAN + wrong, "api_plugin.py")


FLAGS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "texts": ({"op": "retention", "budget": "2m"}, ["--op", "retention", "--budget", "2m"]),
    "lists": ({"op": ["a", "b"], "seq_len": (128, 512)}, ["--op", "a,b", "--seq-len", "128,512"]),
    "numbers": ({"rep": 20, "cool_down": 0.5, "launches": 2}, ["--rep", "20", "--cool-down", "0.5", "--launches", "2"]),
    "switches": ({"no_static": True, "energy": False}, ["--no-static"]),
    "paths": ({"load": [Path("a.py"), "b.py"], "out": Path("c")}, ["--load", "a.py", "--load", "b.py", "--out", "c"]),
    "own axes": (
        {"axis": {"causal": [True, False]}, "tunable": {"deep": 2}},
        ["--axis", "causal=yes,no", "--tunable", "deep=2"],
    ),
    "shapes": ({"shape": [{"B": 1, "T": 8}, "B=2,T=4"]}, ["--shape", "B=1,T=8", "--shape", "B=2,T=4"]),
    "optional": ({"lock_clocks": True}, ["--lock-clocks"]),
    "given": ({"lock_clocks": 1200}, ["--lock-clocks", "1200"]),
    "left out": ({"op": None, "initial_state": [True, False]}, ["--initial-state", "yes,no"]),
}


@pytest.mark.parametrize("name", FLAGS)
def test_flags_are_those_of_the_command_line(name: str) -> None:
    given, words = FLAGS[name]
    assert vars(arguments("bench", given)) == vars(parser("bench").parse_args(["bench", *words]))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"opp": "x"}, "bench() takes no 'opp'; did you mean 'op'?"),
        ({"json": True}, "bench() takes no 'json'"),
        ({"dry_run": True}, "bench() takes no 'dry_run'"),
        ({"energy": "yes"}, "energy is a switch: give True or False"),
    ],
)
def test_what_is_no_flag_is_a_type_error(given: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError) as raised:
        suite.bench(**given)
    assert said in str(raised.value)
    with pytest.raises(UsageError, match="argument --seq-len: '0' is not a size"):
        suite.bench(seq_len=0)


@pytest.mark.long
def test_bench_stores_a_run_and_prints_nothing(
    plugin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {**SMALL, "load": plugin, "preset": "smoke", "device": "cpu", "no_static": True}
    run = suite.bench(**more, out=tmp_path / "run")
    assert capsys.readouterr().out == ""
    assert (run.folder, run.whole, run.exit) == (tmp_path / "run", True, Exit.REGRESSION)
    frame = suite.load(run.folder)
    assert set(frame["T"]) == {8, 16}
    assert set(frame[frame["implementation"] == "wrong"]["status"]) == {"incorrect"}
    report = suite.gate(baseline=run.folder, candidate=run.folder, allow_env_mismatch=True, json=tmp_path / "gate.json")
    assert report.exit in (Exit.PASS, Exit.INCONCLUSIVE)
    assert (tmp_path / "gate.json").is_file()
    assert capsys.readouterr().out == ""
    with pytest.raises(TypeError, match="takes no calibrate"):
        suite.gate(calibrate=True)
    with pytest.raises(TypeError, match="gate --promises"):
        suite.gate(promises=True)


def test_check_returns_the_records_of_the_command(plugin: Path, tmp_path: Path) -> None:
    found = suite.check(**SMALL, load=plugin, device="cpu")
    assert {(each["implementation"], each["status"]) for each in found} == {("torch", "ok"), ("wrong", "incorrect")}
    words = ["check", "--load", str(plugin), "--op", "running_mean", "--seq-len", "8,16", "--head-dim", "4", "--heads"]
    words += ["1", "--dtype", "fp32", "--pass", "fwd", "--device", "cpu", "--out", str(tmp_path / "run")]
    assert main(words) == 1
    stored = read_records(tmp_path / "run")
    assert [(each["case_id"], each["check"]) for each in stored] == [(each["case_id"], each["check"]) for each in found]


@pytest.mark.long
def test_static_profiles_are_those_of_the_command(tmp_path: Path) -> None:
    # In a folder of its own: a profile's key is of all that a plug-in may import, which beside the tests is them all.
    double = write(tmp_path, (Path(__file__).parent / "static" / "plugin.py").read_text())
    given = {"op": "double", "impl": "triton", "seq_len": 256, "head_dim": 64, "heads": 2, "pass_": "fwd"}
    found = suite.static_profile(**given, load=double, arch="sm_90", no_issued=True)
    assert [(each.arch, each.status, len(each.launches)) for each in found] == [("sm_90", "ok", 1)]
    with pytest.raises(TypeError, match=r"static_profile\(\) takes no base: run `subquad static --base`"):
        suite.static_profile(base="HEAD")


@pytest.fixture
def measured(tmp_path: Path) -> suite.api.Run:
    records = [record("C64", time_ms=1.0), record("C32", time_ms=2.0, **{"tunable.chunk": 32})]
    naive = {"implementation": "naive <b>", "tunable.chunk": None}
    records.append(record("", time_ms=30.0, **naive) | {"case_id": "retention/naive <b>/B1_T64_H2_K8_V8_fp32_fwd"})
    return suite.api.Run(write_run(tmp_path / "run", records), Exit.PASS, whole=False)


def test_a_run_has_its_records_and_a_table_of_who_is_fastest(measured: suite.api.Run) -> None:
    assert len(measured.frame) == 3
    found = measured.table()
    assert list(found["implementation"]) == ["triton_chunk", "naive <b>"]
    assert list(found["times_fastest"]) == [1.0, 30.0]
    assert list(found["tunables"]) == ["chunk 64", ""]
    assert set(found["T"]) == {64}


def test_a_notebook_shows_the_table(measured: suite.api.Run) -> None:
    page = measured._repr_html_()
    assert "<td>triton_chunk (chunk 64)</td>" in page
    assert "naive &lt;b&gt; 30x" in page
    assert "not every case was measured" in page


def test_a_run_draws_the_charts_of_its_report(measured: suite.api.Run, tmp_path: Path) -> None:
    figure = measured.plot()
    assert figure.get_axes()[0].get_xlabel()
    (setting,) = set(measured.table()["setting"])
    assert measured.plot("memory", setting=setting).get_axes()
    words = measured.plot(setting=setting).findobj(Text)
    assert any(setting in each.get_text() for each in words)
    longer = [record("C64", dtype="bfloat16", case_id=record()["case_id"].replace("fp32", "bf16"))]
    both = suite.api.Run(write_run(tmp_path / "both", [record("C64"), *longer]), Exit.PASS, whole=True)
    assert any("bf16" in each.get_text() for each in both.plot(setting="bf16").findobj(Text))
    with pytest.raises(UsageError, match="unknown setting 'fwd'"):
        both.plot(setting="fwd")
    for setting in set(both.table()["setting"]):
        assert any(setting in each.get_text() for each in both.plot(setting=setting).findobj(Text))
    with pytest.raises(UsageError, match="did you mean 'time'"):
        measured.plot("tim")
    for setting, said in (("no such", "unknown setting 'no such'"), (7, "the run has 1, counted from 0")):
        with pytest.raises(UsageError, match=said):
            measured.plot(setting=setting)
