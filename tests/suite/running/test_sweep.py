"""The sweep: real workers, and implementations that end them in every way."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from suite.cli import main
from suite.discovery import ROOT
from suite.running.budget import Budget
from suite.running.process import WorkerProcess
from suite.static import pool
from suite.store import load, read_records
from tests.suite.plugins import FAULTS, RUNNING_MEAN, write

QUICK = ["--preset", "smoke", "--warmup", "1", "--rep", "5", "--seq-len", "32", "--no-report", "--no-static"]


def bench(*words: str) -> int:
    return main(["bench", *QUICK, *words])


def statuses(run: Path) -> dict[str, str]:
    return {record["implementation"]: record["status"] for record in read_records(run)}


def test_faults_cost_one_record_each(tmp_path: Path) -> None:
    plugin, run = write(tmp_path, FAULTS, "sweep_faults.py"), tmp_path / "run"
    # Those two end a worker as well, in tests of their own.
    words = ["--load", str(plugin), "--op", "running_mean", "--skip", "breeds,sticky", "--pass", "fwd"]
    assert bench(*words, "--timeout", "7", "--out", str(run)) == 1
    assert statuses(run) == {
        "torch": "ok",
        "segfault": "crashed",
        "exits": "crashed",
        "hangs": "timeout",
        "hungry": "oom",
        "prints": "ok",
        "raises": "error",
        "nan": "incorrect",
        "lazy": "incorrect",
        "identity": "incorrect",
        "wrong_shape": "incorrect",
        "not_a_pair": "error",
        "one_bad_token": "incorrect",
        "caches": "incorrect",
        "overruns": "incorrect",
        "scribbles": "incorrect",
        "late": "incorrect",
        "refuses": "unsupported",
    }
    by_name = {record["implementation"]: record for record in read_records(run)}
    assert "SIGSEGV" in by_name["segfault"]["reason"]
    assert by_name["caches"]["reason"].startswith("in its last timed call: o: error")
    assert by_name["overruns"]["reason"].startswith("it writes past a tensor of shape [")
    assert by_name["scribbles"]["reason"] == "it changes its input q"
    assert "exit code 0" in by_name["exits"]["reason"]
    assert "nothing happened for 7 s" in by_name["hangs"]["reason"]
    for name, record in by_name.items():
        assert ("time_ms" in record) == (record["status"] == "ok"), name
        assert len(record["reason"]) < 300, name


def test_a_hung_process_group_is_gone_within_5_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin, took = write(tmp_path, FAULTS.replace("# bred", f"# {tmp_path}"), "breeding_faults.py"), []
    kill = WorkerProcess.kill

    def timed_kill(worker: WorkerProcess) -> None:
        start = time.monotonic()
        kill(worker)
        took.append(time.monotonic() - start)

    monkeypatch.setattr(WorkerProcess, "kill", timed_kill)
    words = ["--load", str(plugin), "--op", "running_mean", "--impl", "breeds", "--pass", "fwd", "--timeout", "3"]
    assert bench(*words, "--out", str(tmp_path / "run")) == 1
    assert statuses(tmp_path / "run") == {"breeds": "timeout"}
    assert took
    assert max(took) < 5
    assert not [command for command in commands() if str(tmp_path) in command and "10_000" in command]


def commands() -> list[str]:
    """Command lines of all processes that run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().decode(errors="replace"))
    return found


def test_a_sticky_error_ends_its_worker(tmp_path: Path) -> None:
    plugin, run = write(tmp_path, FAULTS, "sticky_faults.py"), tmp_path / "run"
    words = ["--load", str(plugin), "--op", "running_mean", "--impl", "sticky,torch", "--pass", "fwd"]
    assert bench(*words, "--seq-len", "32,64", "--out", str(run)) == 1
    reasons = {r["reason"] for r in read_records(run) if r["implementation"] == "sticky"}
    assert len(reasons) == 2, "each problem had a process of its own"
    assert statuses(run) == {"sticky": "error", "torch": "ok"}
    assert len(read_records(run)) == 4, "one record each, and none for who came after"


def test_a_record_is_whole(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert (
        bench("--op", "linear_attention", "--impl", "torch_chunk,naive", "--pass", "bwd,fwdbwd", "--out", str(run)) == 0
    )
    assert {record["pass"] for record in read_records(run)} == {"bwd", "fwdbwd"}
    for record in read_records(run):
        assert record["status"] == "ok"
        assert record["p20_ms"] <= record["time_ms"] <= record["p80_ms"]
        assert len(record["samples"]) >= 10
        assert set(record["check"]) == {"o", "dq", "dk", "dv"}
        assert record["tflops"] == pytest.approx(record["flops_alg"] / record["time_ms"] / 1e9)
        assert record["intensity"] == pytest.approx(record["flops_alg"] / record["bytes_compulsory"])
        assert record["memory_mib"] > 0
        assert record["stop"] in ("interval", "time_limit")
        assert record["naive_ratio"] > 0
        assert record["bound"] in ("memory", "compute", "latency")
        assert record["mode"] == "warm-cpu"
    frame = load(run)
    assert sorted(frame["implementation"]) == ["naive", "naive", "torch_chunk", "torch_chunk"]


def test_extend_measures_only_what_is_missing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["--op", "linear_attention", "--pass", "fwd"]
    assert bench(*words, "--impl", "naive", "--out", str(run)) == 0
    before = (run / "records.jsonl").read_text().splitlines()
    assert bench(*words, "--impl", "naive,torch_chunk", "--extend", str(run)) == 0
    after = (run / "records.jsonl").read_text().splitlines()
    assert after[: len(before)] == before
    assert [json.loads(line)["implementation"] for line in after[len(before) :]] == ["torch_chunk"]


@pytest.mark.long
def test_launches_are_fresh_processes(tmp_path: Path) -> None:
    plugin = write(
        tmp_path,
        RUNNING_MEAN.replace("running_mean", "pid_mean")
        + "\nimport os\npid_mean.implementation('who', origin='ours', passes={'fwd'},"
        " configuration=lambda p, t: {'pid': os.getpid()})(mean)\n",
        "pid_plugin.py",
    )
    run = tmp_path / "run"
    assert bench("--load", str(plugin), "--op", "pid_mean", "--impl", "who", "--launches", "3", "--out", str(run)) == 0
    records = read_records(run)
    assert [record["launch"] for record in records] == [0, 1, 2]
    assert len({record["configuration"]["pid"] for record in records}) == 3


def test_budget_leaves_a_run_that_can_be_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, words = tmp_path / "run", ["--op", "linear_attention", "--impl", "naive", "--pass", "fwd"]
    lengths = [16, 24, 32, 40]

    def clock() -> float:
        """Each record took 20 minutes."""
        path = run / "records.jsonl"
        return 1200.0 * path.read_bytes().count(b"\n") if path.is_file() else 0.0

    with monkeypatch.context() as patched:
        patched.setattr("suite.running.budget.Budget", partial(Budget, clock=clock))
        assert bench(*words, "--seq-len", "16,24,32,40", "--budget", "40m", "--out", str(run)) == 0
    assert [record["T"] for record in read_records(run)] == lengths[:2]
    assert json.loads((run / "environment.json").read_text())["plan"]["left_out"] == 2
    assert main(["bench", "--resume", str(run), "--no-report"]) == 0
    assert [record["T"] for record in read_records(run)] == lengths
    assert json.loads((run / "environment.json").read_text())["plan"]["left_out"] == 0


def start_bench(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "suite", "bench", *QUICK, *words],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def await_records(run: Path, count: int) -> None:
    # On a loaded machine the ceilings alone, which are measured first, may take minutes.
    end = time.monotonic() + 600
    while time.monotonic() < end:
        path = run / "records.jsonl"
        if path.is_file() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.05)
    raise AssertionError("no records came")


# It waits in its fourth case until a file says that it may go on.
WAITS = (
    RUNNING_MEAN.replace("running_mean", "held_mean")
    + """
import pathlib, time
@held_mean.implementation('held', origin='ours', passes={'fwd'})
def held(q, k, v):
    while v.shape[1] > 32 and not pathlib.Path('GO').exists():
        time.sleep(0.05)
    return mean(q, k, v)
"""
)


COMPILERLESS = (
    RUNNING_MEAN.replace("running_mean", "plain_mean")
    + """
import sys
@plain_mean.implementation('plain', origin='ours')
def plain(q, k, v):
    assert not {"torch._dynamo", "torch._inductor"} & set(sys.modules)
    return mean(q, k, v)
"""
)


def test_a_worker_imports_torchs_compiler_only_where_a_case_does(tmp_path: Path) -> None:
    """It takes longer to import than to check and time a small case."""
    plugin = write(tmp_path, COMPILERLESS, "plain_plugin.py")
    words = ["--load", str(plugin), "--op", "plain_mean", "--impl", "plain", "--pass", "fwdbwd", "--seq-len", "16,24"]
    assert bench(*words, "--out", str(tmp_path / "run")) == 0
    assert [record["status"] for record in read_records(tmp_path / "run")] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("how", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGKILL, -9, marks=pytest.mark.long)]
)
def test_an_ended_sweep_is_a_valid_run(tmp_path: Path, how: signal.Signals, code: int) -> None:
    run, go = tmp_path / "run", tmp_path / "go"
    plugin = write(tmp_path, WAITS.replace("GO", str(go)), "held_plugin.py")
    words = ["--load", str(plugin), "--op", "held_mean", "--impl", "held", "--pass", "fwd", "--seq-len", "16,24,32,40"]
    process = start_bench(*words, "--out", str(run))
    await_records(run, 3)
    process.send_signal(how)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert b"Traceback" not in err
    assert [record["T"] for record in read_records(run)] == [16, 24, 32]
    go.touch()
    code = main(["bench", "--resume", str(run), "--no-report"])
    assert code == 0, [(r["case_id"], r["reason"]) for r in read_records(run) if r["status"] != "ok"]
    assert [(record["T"], record["launch"]) for record in read_records(run)] == [(T, 0) for T in (16, 24, 32, 40)]
    plan = json.loads((run / "plan.json").read_text())
    assert sum(len(each["cases"]) for each in plan["problems"]) == 4
    environment = json.loads((run / "environment.json").read_text())
    assert environment["plan"]["left_out"] == 0
    assert environment["plan"]["seconds"]["time"] > 0


def test_no_worker_survives_a_killed_runner(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    plugin = write(
        tmp_path,
        RUNNING_MEAN.replace("running_mean", "stuck_mean")
        + "\nimport os, pathlib, time\n@stuck_mean.implementation('stuck', origin='ours', passes={'fwd'})\n"
        f"def stuck(q, k, v):\n    pathlib.Path({str(mark)!r}).write_text(str(os.getpid()))\n    time.sleep(10_000)\n",
        "stuck_plugin.py",
    )
    process = start_bench(
        "--load", str(plugin), "--op", "stuck_mean", "--impl", "stuck", "--out", str(tmp_path / "run")
    )
    end = time.monotonic() + 60
    while not (mark.is_file() and mark.read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    worker = int(mark.read_text())
    assert alive(worker)
    process.kill()
    process.communicate()
    end = time.monotonic() + 5
    while alive(worker) and time.monotonic() < end:
        time.sleep(0.1)
    assert not alive(worker)


def alive(pid: int) -> bool:
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text().rpartition(")")[2].split()[0] != "Z"


def drop_records(run: Path, keep: int) -> None:
    """As after a kill: the first records alone."""
    path = run / "records.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:keep]))


def test_two_sweeps_into_one_run_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert bench("--op", "linear_attention", "--impl", "naive", "--pass", "fwd", "--out", str(run)) == 0
    assert bench("--op", "linear_attention", "--impl", "naive", "--pass", "fwd", "--out", str(run)) == 2
    assert "already holds a run" in capsys.readouterr().err


def test_worker_that_can_not_load_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = write(
        tmp_path,
        "import os\nif 'SUBQUAD_WORKER_DEVICE' in os.environ:\n    raise RuntimeError('only in a worker')\n"
        + RUNNING_MEAN,
        "worker_only.py",
    )
    assert bench("--load", str(plugin), "--op", "running_mean", "--out", str(tmp_path / "run")) == 2
    err = capsys.readouterr().err
    assert "only in a worker" in err


def test_check_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = write(tmp_path, FAULTS, "check_faults.py")
    words = ["check", "--load", str(plugin), "--op", "running_mean", "--pass", "fwd", "--seq-len", "16"]
    assert main([*words, "--impl", "torch"]) == 0
    assert main([*words, "--impl", "torch,nan", "--json"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert {record["implementation"]: record["status"] for record in lines} == {"torch": "ok", "nan": "incorrect"}
    assert {record["kind"] for record in lines} == {"check"}


def test_check_in_the_interpreter(capsys: pytest.CaptureFixture[str]) -> None:
    # Triton writes "0" there when a test has turned its switch on and off again.
    assert os.environ.get("TRITON_INTERPRET", "0") == "0"
    words = ["check", "--device", "interpret", "--op", "linear_attention", "--impl", "triton_chunk", "--json"]
    assert main([*words, "--pass", "fwd", "--seq-len", "40"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {record["dtype"]: record["status"] for record in lines} == {"float32": "ok", "bfloat16": "ok"}


def test_an_estimate_comes_from_the_last_run_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("suite.cli.bench.RUNS", tmp_path)
    words = ["--op", "linear_attention", "--pass", "fwd", "--seq-len", "64,128"]
    assert bench(*words, "--dry-run") == 0
    assert "without an earlier run of this machine" in capsys.readouterr().out
    assert bench(*words, "--out", str(tmp_path / "first")) == 0
    seconds = sum(json.loads((tmp_path / "first/environment.json").read_text())["plan"]["seconds"].values())
    capsys.readouterr()
    for launches in (1, 3):
        assert bench(*words, "--dry-run", "--launches", str(launches)) == 0
        told = capsys.readouterr().out
        assert "at the pace of" in told
        about = float(told.partition("about ")[2].partition(" s")[0])
        assert about == pytest.approx(launches * seconds, abs=1, rel=0.05)


def test_cooling_is_a_phase_of_its_own(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["--op", "linear_attention", "--impl", "naive", "--pass", "fwd", "--seq-len", "16,32,48"]
    assert bench(*words, "--cool-down", "0.3", "--out", str(run)) == 0
    seconds = json.loads((run / "environment.json").read_text())["plan"]["seconds"]
    assert seconds["cooling"] == pytest.approx(0.6, abs=0.1)


@pytest.mark.long
def test_a_check_can_be_stored_and_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    words = ["check", "--op", "linear_attention", "--pass", "fwd", "--seq-len", "16,24", "--device", "cpu"]
    assert main([*words, "--origin", "baseline", "--budget", "1m", "--out", str(run)]) == 0
    drop_records(run, keep=2)
    assert main(["check", "--resume", str(run)]) == 0
    records = read_records(run)
    assert [r["kind"] for r in records] == ["check"] * 4
    assert sorted(r["implementation"] for r in records) == ["naive", "naive", "torch_chunk", "torch_chunk"]
    assert main([*words, "--impl", "naive", "--out", str(run)]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert main([*words, "--origin", "mine"]) == 2
    assert "unknown origin 'mine'" in capsys.readouterr().err


@pytest.mark.long
def test_a_ceiling_that_was_too_low_is_raised_for_all_that_follows(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--op", "linear_attention", "--impl", "naive", "--pass", "fwd", "--seq-len", "64,128"]
    assert bench(*words, "--out", str(tmp_path / "first")) == 0
    name = ceilings_of(tmp_path / "first")["cache"]
    low = json.loads((cache / name).read_text())
    monkeypatch.setenv("SUBQUAD_CACHE", str(tmp_path / "cache"))
    cached = tmp_path / "cache" / name
    cached.parent.mkdir(parents=True)
    for point in [*low["copy"], low["matmul"]["float32"]]:
        point |= {name: value / 1e6 for name, value in point.items() if name in ("gbs", "tflops")}
    cached.write_text(json.dumps(low))
    assert bench(*words, "--out", str(tmp_path / "second")) == 0
    raised = ceilings_of(tmp_path / "second")
    assert raised["matmul"]["float32"]["tflops"] > 1000 * low["matmul"]["float32"]["tflops"]
    assert json.loads(cached.read_text()) == raised
    assert {record["status"] for record in read_records(tmp_path / "second")} == {"ok"}


def ceilings_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "environment.json").read_text())["ceilings"]


def static_records(run: Path) -> dict[str, dict[str, Any]]:
    return {record["implementation"]: record for record in read_records(run) if record["kind"] == "static"}


@pytest.mark.long
def test_without_a_gpu_the_plans_kernels_are_compiled_at_its_own_shapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A static record has the case of a timed one; issued traffic is not counted; a peer that compiles not has none."""
    plugin, preset = str(ROOT / "tests" / "suite" / "static" / "plugin.py"), tmp_path / "short.toml"
    preset.write_text('[[sweep]]\nT = [96]\nH = [2]\nK = [32]\ndtype = ["float32"]\npass = ["fwd"]\n')
    words = ["bench", "--load", plugin, "--op", "double", "--impl", "triton,unfinished,careful,cpu", "--warmup", "1"]
    words += ["--rep", "5", "--no-report", "--preset", str(preset)]
    # Ceilings that were measured beside other work may make the CPU's time implausible, which is exit 1.
    judged = (0, 1)
    assert main([*words, "--out", str(tmp_path / "whole")]) in judged
    found = static_records(tmp_path / "whole")
    assert {name: record["status"] for name, record in found.items()} == {"triton": "ok", "unfinished": "compile_error"}
    timed = {record["case_id"] for record in read_records(tmp_path / "whole") if record["kind"] == "timed"}
    assert {record["case_id"] for record in found.values()} < timed
    assert found["triton"]["static.launches"] == 1
    assert not [name for name in found["triton"] if "issued" in name]
    # What was profiled before costs no time of a budget, which ends here before the rest is profiled.
    serve = pool._serve_all

    def late(items: Any, terms: Any, step: Any) -> None:
        terms.budget.seconds = 0.0
        serve(items, terms, step)

    monkeypatch.setattr(pool, "_serve_all", late)
    capsys.readouterr()
    assert main([*words, "--budget", "10m", "--out", str(tmp_path / "short")]) in judged
    assert set(static_records(tmp_path / "short")) == {"triton"}
    again = f"1 of 3 static profiles left out under --budget; `subquad bench --resume {tmp_path / 'short'}` takes them"
    assert again in capsys.readouterr().err
    preset.write_text("static = false\n" + preset.read_text())
    assert main([*words, "--out", str(tmp_path / "none")]) in judged
    assert static_records(tmp_path / "none") == {}
    assert {record["kind"] for record in read_records(tmp_path / "none")} == {"timed"}
