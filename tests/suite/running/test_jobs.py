"""`check --jobs N`: several workers on one device, with the records and the exit code of one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from suite.cli import main
from suite.cli.sweeping import sharded
from suite.errors import Exit
from suite.plan import Group
from suite.problem import Problem
from suite.running.sweep import Options, _Queue
from suite.store import read_records
from tests.suite.plugins import RUNNING_MEAN, write

PLUGIN = (
    RUNNING_MEAN
    + """
import os, time
from pathlib import Path

FOLDER = Path(FOLDER_OF_THE_TEST)
other_mean = Operator("other_mean", "o_t = mean of v_1..v_t", "none", qkv, mean, tags=("linear",),
    cost=lambda p, tunables: Cost(1, 1, 1), passes=("fwd",), stateful=False)

def wait_for(name):
    until = time.monotonic() + 300
    while not (FOLDER / name).exists():
        assert time.monotonic() < until, f"nobody came to write {name}"
        time.sleep(0.01)

def visits():
    # Both calls of a check are in one process, so a process is a visit.
    file = FOLDER / "visits"
    seen = file.read_text().split() if file.exists() else []
    if str(os.getpid()) not in seen:
        file.write_text(" ".join([*seen, str(os.getpid())]))
        seen.append(str(os.getpid()))
    return len(seen)

for operator, mine, theirs in ((running_mean, "a", "b"), (other_mean, "b", "a")):
    @operator.implementation("meets", origin="ours", passes={"fwd"})
    def meets(q, k, v, mine=mine, theirs=theirs):
        (FOLDER / mine).touch()
        wait_for(theirs)
        return mean(q, k, v)

    operator.implementation("right", origin="ours", passes={"fwd"})(lambda q, k, v: mean(q, k, v))
    operator.implementation("wrong", origin="ours", passes={"fwd"})(lambda q, k, v: (v, None))
    operator.implementation("exits", origin="ours", passes={"fwd"})(lambda q, k, v: os._exit(7))

@running_mean.implementation("crowded", origin="ours", passes={"fwd"})
def crowded(q, k, v):
    if visits() == 1:
        raise torch.OutOfMemoryError("CUDA out of memory")
    return mean(q, k, v)

@running_mean.implementation("killed", origin="ours", passes={"fwd"})
def killed(q, k, v):
    if visits() == 1:
        os.kill(os.getpid(), 9)
    return mean(q, k, v)

@running_mean.implementation("sleeps", origin="ours", passes={"fwd"})
def sleeps(q, k, v):
    (FOLDER / str(os.getpid())).touch()
    (FOLDER / "asleep").touch()
    time.sleep(10_000)

@other_mean.implementation("interrupts", origin="ours", passes={"fwd"})
def interrupts(q, k, v):
    wait_for("asleep")
    os.kill(RUNNER_OF_THE_TEST, 2)
    time.sleep(10_000)
"""
)


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs `check` with implementations of the plug-in, and returns its exit code and records by case."""
    monkeypatch.setenv("SUBQUAD_CACHE", str(tmp_path / "cache"))
    text = PLUGIN.replace("FOLDER_OF_THE_TEST", repr(str(tmp_path))).replace("RUNNER_OF_THE_TEST", str(os.getpid()))
    plugin = write(tmp_path, text)

    def run(*words: str, out: str = "run") -> tuple[int, dict[str, list[str]]]:
        shape = ["--pass", "fwd", "--dtype", "fp32", "--head-dim", "16", "--seq-len", "16"]
        folder = tmp_path / out
        code = main(["check", "--device", "cpu", "--load", str(plugin), *shape, "--out", str(folder), *words])
        found: dict[str, list[str]] = {}
        for record in read_records(folder):
            found.setdefault(f"{record['operator']}/{record['implementation']}", []).append(record["status"])
        return code, found

    return run


OPERATORS = ("--op", "running_mean,other_mean")


def test_two_workers_check_at_the_same_time(check) -> None:
    """Each of two implementations waits in its worker until the other is called."""
    code, found = check(*OPERATORS, "--impl", "meets", "--jobs", "2")
    assert (code, found) == (Exit.PASS, {"running_mean/meets": ["ok"], "other_mean/meets": ["ok"]})


@pytest.mark.long
def test_a_death_costs_its_own_case_and_all_is_as_with_one_worker(check) -> None:
    words = (*OPERATORS, "--impl", "right,wrong,exits")
    alone, together = check(*words, out="alone"), check(*words, "--jobs", "3", out="together")
    assert alone == together
    assert alone[0] == Exit.REGRESSION
    assert together[1] == {
        f"{operator}/{name}": [status]
        for operator in ("running_mean", "other_mean")
        for name, status in (("right", "ok"), ("wrong", "incorrect"), ("exits", "crashed"))
    }


@pytest.mark.long
@pytest.mark.parametrize("name", ["crowded", pytest.param("killed", marks=pytest.mark.long)])
def test_memory_that_neighbours_may_have_taken_is_asked_for_again_alone(check, name: str) -> None:
    """What is out of memory beside others has no record until it was checked alone; with one worker it has that."""
    code, found = check(*OPERATORS, "--impl", f"{name},right", "--jobs", "2")
    assert (code, found[f"running_mean/{name}"], found["other_mean/right"]) == (Exit.PASS, ["ok"], ["ok"])


@pytest.mark.long
def test_what_is_out_of_memory_alone_is_so(check) -> None:
    assert check("--op", "running_mean", "--impl", "crowded")[1] == {"running_mean/crowded": ["oom"]}


def test_an_interrupt_ends_all_workers_at_once_and_the_run_can_be_resumed(check, tmp_path: Path, capfd) -> None:
    before = signal.getsignal(signal.SIGINT)
    code, found = check(*OPERATORS, "--impl", "sleeps,interrupts", "--jobs", "2")
    assert (code, found) == (Exit.REGRESSION, {})
    assert f"2 cases left out; `subquad check --resume {tmp_path / 'run'}` does them" in capfd.readouterr().err
    (sleeper,) = (int(path.name) for path in tmp_path.iterdir() if path.name.isdigit())
    with pytest.raises(ProcessLookupError):
        os.kill(sleeper, 0)
    assert signal.getsignal(signal.SIGINT) == before


def test_a_shard_is_a_part_of_the_plan(check) -> None:
    shape = ("--op", "running_mean", "--impl", "right", "--seq-len", "16,32,48")
    assert check(*shape, "--shard", "2/3") == (Exit.PASS, {"running_mean/right": ["ok"]})
    plan = [Group("running_mean", Problem(T=T), ()) for T in (16, 32, 48)]
    assert sorted(group.problem.T for part in (1, 2) for group in sharded(plan, (part, 2))) == [16, 32, 48]


def test_a_slot_keeps_to_its_operator_within_reach_of_the_plans_order() -> None:
    """Two slots do not meet in an operator while another one is near, and nothing waits for more than the window."""

    def group(operator: str, T: int) -> Group:
        return Group(operator, Problem(T=T), ())

    plan = [group(operator, T) for T in (1, 2, 3) for operator in "abc"]
    queue = _Queue(plan, jobs=2)
    first, second = queue.take(None), queue.take(None)
    assert (first, second) == (group("a", 1), group("b", 1))
    assert queue.take(first) == group("a", 2)
    assert queue.take(second) == group("b", 2)
    alone = _Queue([group("a", T) for T in (1, 2)], jobs=2)
    assert [alone.take(None), alone.take(None), alone.take(None)] == [group("a", 1), group("a", 2), None]
    far = _Queue([*(group("b", T) for T in (1, 2, 3, 4)), group("a", 5)], jobs=2)
    assert far.take(group("a", 9)) == group("b", 1)


def test_timing_has_one_worker() -> None:
    with pytest.raises(ValueError, match="one after another"):
        Options("timed", jobs=2)
