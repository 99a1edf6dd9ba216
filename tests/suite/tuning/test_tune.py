"""Tuning: the fastest right config wins, faults cost one candidate, and a table is read where host code asks."""

import json
from pathlib import Path

import pytest

from suite import Problem
from suite.cli import main
from suite.discovery import discover
from suite.errors import StoreError, spoiling
from suite.measuring.case import Settings
from suite.measuring.context import Spoiled
from suite.targets import Target, aim
from suite.tuning import choice, forcing, use_root
from suite.tuning import trials as tuning_trials
from suite.tuning.search import chosen
from suite.tuning.tables import Table, Tuned, path_of, read_table, write_table
from suite.tuning.trials import CaseTrials, Trial
from tests.suite.plugins import RUNNING_MEAN, write

# A config spins for `spin` tens of microseconds; some are wrong, raise, or end the process.
TUNABLE = (
    RUNNING_MEAN
    + """
import os, time
from suite.errors import spoiling
from suite.tuning import choice

# Whether this process can measure nothing any more, as after a CUDA error.
gone = False
CANDIDATES = [dict(spin=40), dict(spin=90), dict(spin=4), dict(spin=1, wrong=1), dict(spin=1, dies=1),
              dict(spin=1, raises=1), dict(spin=1, spoils=1), dict(spin=20)]

def key(what, K):
    return f"toy/{what}/K{K}"

def search(problem, tunables):
    return {key("first", problem.K): CANDIDATES, key("second", problem.K): CANDIDATES[:3]}

@running_mean.implementation("spins", origin="ours", devices={"cpu"}, search=search)
def spins(q, k, v):
    first = choice(key("first", q.shape[-1])) or CANDIDATES[0]
    second = choice(key("second", q.shape[-1])) or CANDIDATES[0]
    until = time.perf_counter_ns() + 10_000 * (first["spin"] + second["spin"])
    if first.get("dies"):
        os._exit(7)
    if first.get("raises"):
        raise ValueError("no such config")
    global gone
    if gone:
        raise RuntimeError("the device answers nothing but errors")
    if first.get("spoils"):
        gone = True
        raise spoiling(RuntimeError("an illegal memory access"))
    while time.perf_counter_ns() < until:
        pass
    o, _ = mean(q, k, v)
    return (o + 1 if first.get("wrong") else o), None
"""
)
CASE = [
    "--op",
    "running_mean",
    "--impl",
    "spins",
    "--pass",
    "fwd",
    "--seq-len",
    "16",
    "--head-dim",
    "16",
    "--rep",
    "60",
]


def tune(folder: Path, *words: str) -> int:
    plugin = write(folder, TUNABLE, "tune_plugin.py")
    return main(["tune", "--load", str(plugin), "--preset", "smoke", *CASE, "--out", str(folder / "t.json"), *words])


def test_the_fastest_right_config_wins_and_faults_cost_one_candidate(tmp_path, capsys):
    assert tune(tmp_path) == 0
    table = read_table(tmp_path / "t.json")
    assert table is not None
    first, second = table.entries["toy/first/K16"], table.entries["toy/second/K16"]
    assert first.config == {"spin": 4}
    assert first.runner_up == {"spin": 20}
    assert first.refused == {"incorrect": 1, "crashed": 1, "error": 2}
    assert first.tried == 4
    assert first.default_ms > first.runner_up_ms > first.ms
    # The second kernel was timed with the first one's winner in force.
    assert second.default_ms < first.default_ms
    assert first.case_id.startswith("running_mean/spins/")
    told = capsys.readouterr().err
    assert "exit code 7" in told
    assert "no such config" in told
    assert "an illegal memory access" in told
    assert "nothing but errors" not in told


@pytest.mark.long
def test_a_second_run_tunes_nothing(tmp_path, capsys):
    assert tune(tmp_path) == 0
    before = (tmp_path / "t.json").read_text()
    assert tune(tmp_path) == 0
    assert "nothing to tune" in capsys.readouterr().out
    assert (tmp_path / "t.json").read_text() == before
    assert tune(tmp_path, "--refresh", "--dry-run") == 0
    assert "toy/first/K16: 8 configs" in capsys.readouterr().out


@pytest.mark.long
def test_a_budget_leaves_out_what_does_not_fit(tmp_path, capsys):
    assert tune(tmp_path, "--head-dim", "16,32", "--budget", "0.01s") == 0
    assert "left out by --budget" in capsys.readouterr().err


def test_a_table_of_another_gpu_is_refused(tmp_path, capsys):
    write_table(tmp_path / "t.json", Table("NVIDIA H200", "sm_90"))
    assert tune(tmp_path) == 2
    assert "is the table of NVIDIA H200" in capsys.readouterr().err


@pytest.mark.long
def test_the_tables_config_that_is_wrong_is_a_failure(tmp_path):
    plugin = write(tmp_path, TUNABLE.replace("CANDIDATES = [", "CANDIDATES = [dict(spin=1, wrong=1), "), "wrong.py")
    assert main(["tune", "--load", str(plugin), "--preset", "smoke", *CASE, "--out", str(tmp_path / "t.json")]) == 1


@pytest.fixture
def root(tmp_path):
    yield tmp_path
    use_root(Path(__file__).resolve().parents[3])


def test_host_code_reads_the_table_of_its_gpu(root):
    write_table(path_of(root, "NVIDIA H200"), Table("NVIDIA H200", "sm_90", {"toy": Tuned({"warps": 8}, 1.0, None)}))
    use_root(root)
    with aim(Target("sm_90", "NVIDIA H200")):
        assert choice("toy") == {"warps": 8}
        assert choice("other") is None
        with forcing({"toy": {"warps": 2}}):
            assert choice("toy") == {"warps": 2}
    with aim(Target("sm_90", "NVIDIA H100")):
        assert choice("toy") is None


def test_a_damaged_table_names_the_file(tmp_path):
    path = tmp_path / "t.json"
    path.write_text("{")
    with pytest.raises(StoreError, match=r"t\.json cannot be read"):
        read_table(path)
    path.write_text(json.dumps({"schema": 1, "gpu": "a", "arch": "b", "entries": {"k": {"what": 1}}}))
    with pytest.raises(StoreError, match=r"t\.json is not a table"):
        read_table(path)


def trial(index, low, ms, high):
    return {"index": index, "config": {"warps": index}, "status": "ok", "ms": ms, "low": low, "high": high}


def test_a_tie_keeps_the_tables_config():
    tie = chosen([trial(0, 0.98, 1.0, 1.02), trial(1, 0.97, 0.99, 1.01)])
    clear = chosen([trial(0, 0.98, 1.0, 1.02), trial(1, 0.90, 0.92, 0.95)])
    assert tie is not None
    assert clear is not None
    assert (tie["config"], tie["runner_up_ms"]) == ({"warps": 0}, 0.99)
    assert clear["config"] == {"warps": 1}
    assert chosen([]) is None


def test_what_a_tie_keeps_is_in_force_while_the_next_kernel_is_tried():
    """The runner keeps the table's config: another one, faster by chance, must not be what the rest is tuned with."""
    seen, configs = {}, [{"width": 32}, {"width": 64}]

    class Tied(CaseTrials):
        def _key(self, key, candidates, found, checker, inputs):
            seen[key] = dict(found)
            return [Trial(i, configs[i], ms=1 - i / 100, low=0.9, high=1.1) for i in range(2)]

    operator = discover().operator("linear_attention")
    problem = operator.complete(Problem(T=8, K=8, dtype="fp32"))
    settings = Settings("cpu", "CPU", ("warm-cpu",))
    trials = Tied(operator, operator.implementations["naive"], problem, {}, settings, set(), [].append, print)
    trials.run({"first": configs, "second": configs}, {})
    assert seen == {"first": {}, "second": {"first": configs[0]}}


def test_a_candidate_that_spoils_its_process_while_it_is_timed_ends_it(monkeypatch):
    begun = []

    def interleave(sampled, deadline, begin, failed):
        begin(1)
        failed(1, spoiling(RuntimeError("CUDA error 719")))

    monkeypatch.setattr(tuning_trials, "interleave", interleave)
    operator = discover().operator("linear_attention")
    problem = operator.complete(Problem(T=8, K=8, dtype="fp32"))
    settings = Settings("cpu", "CPU", ("warm-cpu",), warmup_ms=0)
    made, begin = operator.implementations["naive"], lambda *each: begun.append(each)
    trials = CaseTrials(operator, made, problem, {}, settings, set(), [].append, begin)
    with pytest.raises(Spoiled, match=r"^error: RuntimeError: CUDA error 719"):
        trials.run({"first": [{"width": 32}, {"width": 64}]}, {})
    assert begun[-1] == (1, "time")


def test_a_table_of_the_first_schema_is_read(tmp_path):
    """Its field `launch` is `config` now; a base revision comes with tables of its own."""
    path = tmp_path / "gpu.json"
    entry = {"launch": {"warps": 4}, "ms": 1.0, "default_ms": 2.0}
    path.write_text(json.dumps({"schema": 1, "gpu": "a", "arch": "b", "entries": {"k": entry}}))
    table = read_table(path)
    assert table is not None
    assert table.entries["k"].config == {"warps": 4}
