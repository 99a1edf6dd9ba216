"""`--resume RUN` goes on with the stored plan; what contradicts it, or another environment, is refused or marked."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from suite.cli import main, parser
from suite.cli.runs import Resumption, environment_of, start_run
from suite.discovery import ROOT
from suite.errors import UsageError
from suite.hardware.environment import describe
from suite.reporting.data.frame import normalise, read
from suite.reporting.data.summary import doubts
from suite.running.resuming import marked
from suite.store import read_environment, read_records
from suite.store.encoding import sealed
from suite.store.writing import reserve
from tests.suite.plugins import RUNNING_MEAN, write

WORDS = [
    "--preset",
    "smoke",
    "--op",
    "linear_attention",
    "--origin",
    "baseline",
    "--pass",
    "fwd",
    "--seq-len",
    "16,24",
    "--warmup",
    "1",
    "--rep",
    "5",
    "--no-static",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was measured once."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main(["bench", *WORDS, "--seed", "3", "--no-report", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """The run as it is when it was killed after its first record."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("environment.json", "plan.json"):
        (folder / name).write_bytes((whole / name).read_bytes())
    (folder / "records.jsonl").write_bytes((whole / "records.jsonl").read_bytes().splitlines(keepends=True)[0])
    return folder


def change(path: Path, **values: Any) -> None:
    path.write_bytes(sealed({**json.loads(path.read_text()), **values}))


def resumed(run: Path, *words: str) -> int:
    return main(["bench", "--resume", str(run), "--no-report", *words])


def refused(run: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a resumption that is refused says: one line, and no record is written."""
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.name != ".lock"}
    capsys.readouterr()
    assert resumed(run, *words) == 2
    out, err = capsys.readouterr()
    assert not out
    assert len(err.splitlines()) == 1, err
    assert before == {path.name: path.read_bytes() for path in run.iterdir() if path.name != ".lock"}
    return err


def test_a_run_is_resumed_by_its_name_alone(whole: Path, run: Path) -> None:
    assert resumed(run) == 0
    wanted, found = read_records(whole), read_records(run)
    assert [record["case_id"] for record in found] == [record["case_id"] for record in wanted]
    assert {record["seed"] for record in found} == {3}
    assert "resumed" not in read_environment(run)


def test_flags_that_agree_are_no_contradiction(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--op",
        "linear_attention",
        "--seq-len",
        "24,16",
        "--seed",
        "3",
        "--rep",
        "5.0",
        "--device",
        "cpu",
        "--launches",
        "1",
        "--budget",
        "5m",
    ]
    assert resumed(run, *words, "--dry-run") == 0
    assert "1 of them are in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed", "4"], "the run was made with --seed 3, not with --seed 4"),
        (["--seed", "0"], "with --seed 3, not with --seed 0"),
        (["--rep", "6"], "with --rep 5.0, not with --rep 6.0"),
        (["--warmup", "2"], "with --warmup 1.0, not with --warmup 2.0"),
        (["--cool-down", "1"], "with --cool-down 0.0, not with --cool-down 1.0"),
        (["--energy"], "without --energy, not with --energy"),
        (["--op", "softmax_attention"], "with --op linear_attention, not with --op softmax_attention"),
        (["--impl", "naive"], "without --impl, not with --impl naive"),
        (["--seq-len", "16"], "with --seq-len 16,24, not with --seq-len 16"),
        (["--head-dim", "64x32"], "without --head-dim, not with --head-dim 64x32"),
        (["--preset", "cpu"], "with --preset smoke, not with --preset cpu"),
        (["--dtype", "fp16"], "without --dtype, not with --dtype float16"),
        (["--launches", "2"], "with --launches 1, not with --launches 2"),
        (["--shard", "1/2"], "without --shard, not with --shard 1/2"),
    ],
)
def test_flags_that_contradict_the_plan(
    run: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(run, capsys, *words)


def test_what_is_measured_is_never_another_plan(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "start a new run with --out" in refused(run, capsys, "--op", "softmax_attention", "--resume-anyway")


@pytest.mark.parametrize(
    ("group", "key", "said"),
    [
        ("commit", "", "commit is other in the run and "),
        ("fingerprint", "torch", "torch is other in the run and "),
        ("fingerprint", "device", "device is other in the run and "),
    ],
)
def test_another_environment_is_refused(
    run: Path, group: str, key: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    known = read_environment(run)[group]
    change(run / "environment.json", **{group: {**known, key: "other"} if key else "other"})
    assert said in refused(run, capsys, "--dry-run")


@pytest.mark.long
def test_another_commit_is_refused_or_marked(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(run / "environment.json", commit="0123abc")
    assert "commit is 0123abc in the run and " in refused(run, capsys)
    assert resumed(run, "--resume-anyway") == 0
    (entry,) = read_environment(run)["resumed"]
    ((then, now),) = entry["differs"].values()
    assert then == "0123abc" != now
    runs = read([run])
    (note,) = [each for each in doubts(normalise(runs), runs) if "was resumed" in each]
    assert "commit 0123abc, then " in note
    # The mark does not make the other commit right, and the same difference is marked once.
    assert "commit is 0123abc in the run and " in refused(run, capsys, "--dry-run")
    environment = read_environment(run)
    assert marked(environment, entry["differs"]) == environment


def test_another_seed_is_marked(run: Path) -> None:
    assert resumed(run, "--seed", "4", "--resume-anyway") == 0
    assert [record["seed"] for record in read_records(run)] == [3, 4, 4, 4]
    (entry,) = read_environment(run)["resumed"]
    assert entry["differs"] == {"seed": [3, 4]}


def test_a_plugin_that_changed_is_another_environment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin, run = write(tmp_path, RUNNING_MEAN.replace("running_mean", "kept_mean"), "kept_plugin.py"), tmp_path / "run"
    words = ["--preset", "smoke", "--op", "kept_mean", "--warmup", "1", "--rep", "5", "--no-static", "--no-report"]
    assert main(["bench", "--load", str(plugin), *words, "--out", str(run)]) == 0
    assert resumed(run, "--dry-run") == 0, "--load is part of the plan"
    plugin.write_text(plugin.read_text() + "\n# another\n")
    assert f"{plugin} " in refused(run, capsys, "--dry-run")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "has no plan.json: it was made before plans were stored"),
        ("{", "plan.json is not JSON"),
        ("[]", "plan.json is not a JSON object"),
        ('{"schema": "9.0"}', "newer than this reader"),
        ('{"schema": "1.0"}', "plan.json has no str 'command'"),
        (
            '{"schema": "1.0", "command": "check", "flags": {"preset": "numerics"}, "plugins": {}, "problems": []}',
            "by `subquad check`",
        ),
    ],
)
def test_a_run_without_a_plan_that_can_be_read(
    run: Path, text: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "plan.json").unlink()
    if text is not None:
        (run / "plan.json").write_text(text)
    assert said in refused(run, capsys)


# A value that is put into plan.json at a place, and what is said of it; null counts as absent.
DAMAGES: list[tuple[tuple[str | int, ...], Any, str]] = [
    (("flags", "preset"), None, "has flags without 'preset'"),
    (("flags", "preset"), 3, "has flags.preset = 3, which is not a string"),
    (("flags", "launches"), "x", "has flags.launches = 'x', which is not an integer of at least 1"),
    (("flags", "launches"), True, "has flags.launches = True, which is not an integer"),
    (("flags", "mode"), 1.5, "has flags.mode = 1.5, which is not a list of strings"),
    (("flags", "load"), [[]], "has flags.load = [[]], which is not a list of strings"),
    (("flags", "rep"), "fast", "has flags.rep = 'fast', which is not 0 or a number"),
    (("plugins", "mine.py"), 7, "has plugins.mine.py = 7, which is not a string"),
    (("problems", 0, "cases", 0, "tunables", "chunk"), [1], "].tunables.chunk = [1], which is not a number, a string"),
    (("problems", 0, "cases"), None, "has problems[0] without 'cases'"),
]


@pytest.mark.parametrize(("place", "value", "said"), DAMAGES)
def test_a_value_of_the_plan_that_cannot_be_taken_is_named(
    run: Path, place: tuple[str | int, ...], value: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = json.loads((run / "plan.json").read_text())
    inner = plan
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    change(run / "plan.json", **{str(place[0]): plan[place[0]]})
    assert said in refused(run, capsys, "--dry-run")


def test_null_in_a_plan_counts_as_absent(run: Path) -> None:
    plan = json.loads((run / "plan.json").read_text())
    change(run / "plan.json", flags={**plan["flags"], "load": None, "launches": None}, plugins={})
    assert resumed(run, "--dry-run") == 0


def test_a_plan_whose_code_is_gone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problems = json.loads((run / "plan.json").read_text())["problems"]
    problems[0]["cases"][0]["implementation"] = "gone"
    change(run / "plan.json", problems=problems)
    assert "unknown implementation of linear_attention 'gone'" in refused(run, capsys)


@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_places_are_judged_before_anything_is_measured(
    run: Path, tmp_path: Path, dry: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr("suite.running.process.measuring_worker", never)
    (tmp_path / "file").write_text("")
    places = [
        (["--out", str(tmp_path / "file")], "cannot write"),
        (["--out", str(tmp_path / "file" / "run")], "cannot write"),
        (["--out", str(run)], "already holds a run"),
    ]
    for words, said in places:
        assert main(["bench", *WORDS, *words, *dry]) == 2
        assert said in capsys.readouterr().err
    assert main(["bench", "--resume", str(tmp_path / "nowhere"), *dry]) == 2
    assert "no run at" in capsys.readouterr().err
    change(run / "environment.json", schema="9.0")
    assert main(["bench", "--resume", str(run), *dry]) == 2
    assert "newer" in capsys.readouterr().err


def test_a_dry_run_heeds_the_budget_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("suite.cli.bench.RUNS", tmp_path)
    words = ["--preset", "smoke", "--op", "linear_attention", "--pass", "fwd", "--seq-len", "64,128,4000000"]
    out = tmp_path / "a" / "run"
    assert main(["bench", *words, "--dry-run", "--budget", "60s", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    found = re.search(r"about 60 s, the budget: room for (\d+) of (\d+) cases", told)
    assert found, told
    # The two short problems are in it, the long one is not.
    assert int(found[1]) * 3 == int(found[2]) * 2 > 0
    assert main(["bench", *words, "--dry-run", "--budget", "9000h", "--out", str(out)]) == 0
    assert "the budget" not in capsys.readouterr().out
    assert not (tmp_path / "a").exists()


def test_two_runs_of_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from suite.store.writing import reserve_fresh
writer = reserve_fresh(Path(sys.argv[1]) / "20260101-000000-cpu")
print(writer.folder.name, flush=True)
sys.stdin.read()
writer.close()
"""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    names = [each.stdout.readline().strip() for each in started if each.stdout]
    name = "20260101-000000-cpu"
    assert sorted(names) == [name, f"{name}-2", f"{name}-3"]
    for each in started:
        each.communicate(timeout=60)
    assert not list(tmp_path.iterdir()), "a folder in which no run began is removed"


@pytest.mark.long
def test_only_unsupported_cases_say_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--preset", "smoke", "--op", "linear_attention", "--impl", "triton_chunk", "--pass", "fwd"]
    said = "triton_chunk does not run on cpu, only on cuda"
    assert main(["bench", *words, "--no-static", "--no-report", "--out", str(tmp_path / "run")]) == 0
    assert (
        f"1 unsupported: {said.partition(' ')[2]}, interpret (linear_attention/triton_chunk)" in capsys.readouterr().out
    )
    assert main(["bench", *words, "--quiet", "--no-static", "--no-report", "--out", str(tmp_path / "quiet")]) == 0
    assert f"1 unsupported: {said}" in capsys.readouterr().err
    assert main(["bench", *words, "--dry-run"]) == 0
    assert f"nothing would be measured: {said}" in capsys.readouterr().out
    assert main(["tune", *words, "--dry-run", "--out", str(tmp_path / "table.json")]) == 0
    assert f"nothing to tune: linear_attention: {said}" in capsys.readouterr().out


def test_a_run_that_lacks_nothing_has_no_reason_why_nothing_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--preset", "smoke", "--op", "linear_attention", "--impl", "triton_chunk", "--pass", "fwd"]
    run = tmp_path / "run"
    assert main(["bench", *words, "--no-static", "--no-report", "--out", str(run)]) == 0
    capsys.readouterr()
    assert resumed(run, "--dry-run") == 0
    told = capsys.readouterr().out
    assert "1 of them are in" in told
    assert "nothing would be measured" not in told


def test_a_preset_file_that_changed_is_refused_where_it_is_named(tmp_path: Path) -> None:
    preset, run = tmp_path / "mine.toml", tmp_path / "run"
    preset.write_text("[[sweep]]\nT = [16, 24]\n")
    words = ["--preset", str(preset)]
    found = {**describe("cpu"), "absent": [], "commit": "", "no_commit": ""}
    with reserve(run) as writer:
        args = parser("bench").parse_args(["bench", *words])
        start_run(writer, args, "bench", [], environment_of(found, str(preset), [], 0), None)

    def resumption(*more: str) -> Resumption:
        return Resumption(parser("bench").parse_args(["bench", "--resume", str(run), *more]), "bench")

    assert resumption(*words).differs == {}
    preset.write_text("[[sweep]]\nT = [16]\n")
    with pytest.raises(UsageError, match=r"mine.toml has changed since the run was made; remove --preset"):
        resumption(*words)
    # Without the flag the stored plan stands, whatever the file says.
    assert resumption().differs == {}
    preset.unlink()
    with pytest.raises(UsageError, match="has changed since the run was made"):
        resumption(*words, "--resume-anyway")
