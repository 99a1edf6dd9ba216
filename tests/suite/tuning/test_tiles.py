"""Configs by predicted time: which wins, which table a compiler reads, and the command on a kernel of a plug-in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from suite.cli import main
from suite.cli.tiles import _Keeper
from suite.discovery import discover
from suite.errors import StoreError
from suite.plan import Selection, make_plan
from suite.presets import load_preset
from suite.problem import Case, Problem
from suite.static.model import Launch, Prediction, Profile
from suite.static.pool import LEFT_OUT
from suite.static.stub_driver import target_of
from suite.static.tasks import Task
from suite.targets import Target, aim
from suite.tuning import choice, chosen, forcing, tiling, use_root
from suite.tuning.chosen import Chosen, ChosenTable, path_for, read_chosen, tables_for, write_chosen
from suite.tuning.tables import Table, Tuned, path_of, write_table
from suite.tuning.tiling import Open, choose, open_keys
from tests.suite.plugins import write

CONFIGS = ({"warps": 4}, {"warps": 8}, {"warps": 2})
SHORT, MIDDLE, LONG = (Case("toy", "ours", Problem(T=T)) for T in (1024, 4096, 8192))


class Predicts:
    """Stands for the pool. ms: of (key, warps, T) a predicted time, None being the family's own; else 1 ms."""

    def __init__(self, ms: Mapping[tuple[str, int | None, int], float | str | None]) -> None:
        self.ms, self.tasks = ms, list[Task]()

    def __call__(self, tasks: Sequence[Task], **_: Any) -> list[Profile]:
        self.tasks += tasks
        return [self._profile(task) for task in tasks]

    def _profile(self, task: Task) -> Profile:
        total = 0.0
        for key, config in task.forced.items():
            ms = self.ms.get((key, config["warps"] if config else None, task.case.problem.T), 1.0)
            if not isinstance(ms, float):
                return Profile(task.case.case_id, task.arch, str(ms or "over_limit"))
            total += ms
        return predicted(task, total)


def predicted(task: Task, ms: float) -> Profile:
    launch = Launch("kernel", (1, 1, 1), predicted=Prediction(ms=ms))
    return Profile(task.case.case_id, task.arch, launches=(launch,))


def told(monkeypatch: pytest.MonkeyPatch, opened: list[Open], ms: Mapping[Any, Any]) -> tuple[dict[str, Chosen], Any]:
    pool, kept = Predicts(ms), dict[str, Chosen]()
    monkeypatch.setattr(tiling, "take_profiles", pool)
    without = choose(opened, "sm_90", kept.__setitem__)
    return kept, (without, pool)


def test_the_config_with_the_least_predicted_time_over_all_cases_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight warps win at the longest length and lose at the shortest one."""
    ms = {("k", 4, 1024): 0.9, ("k", 4, 8192): 0.8, ("k", 8, 1024): 1.2, ("k", 8, 8192): 0.5, ("k", 2, 8192): 0.97}
    kept, (without, pool) = told(monkeypatch, [Open("k", CONFIGS, (SHORT, LONG))], ms)
    assert (kept["k"].config, kept["k"].tried, without) == ({"warps": 4}, 3, [])
    assert kept["k"].us == {SHORT.case_id: 900.0, LONG.case_id: 800.0}
    assert set(kept["k"].own_us.values()) == {1000.0}
    # At the shortest length only the two that are fastest at the longest, and the family's own.
    assert sorted(str(task.forced["k"]) for task in pool.tasks if task.case == SHORT) == [
        "None",
        "{'warps': 4}",
        "{'warps': 8}",
    ]


@pytest.mark.parametrize("ms", [{("k", 4, 8192): 0.985}, {("k", 4, 8192): None}, {("k", 4, 8192): "compile_error"}, {}])
def test_the_familys_own_config_stays_unless_another_gains(monkeypatch: pytest.MonkeyPatch, ms: Any) -> None:
    kept, _ = told(monkeypatch, [Open("k", CONFIGS, (LONG,))], ms)
    assert kept["k"].config == {}
    assert kept["k"].us == kept["k"].own_us == {LONG.case_id: 1000.0}


def test_a_later_key_is_judged_with_the_winners_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = [Open("a", CONFIGS, (LONG,)), Open("b", CONFIGS, (LONG,)), Open("c", CONFIGS, (SHORT,))]
    kept, (_, pool) = told(monkeypatch, opened, {("a", 8, 8192): 0.5, ("b", 2, 8192): 0.1})
    assert (kept["a"].config, kept["b"].config, kept["b"].us) == ({"warps": 8}, {"warps": 2}, {LONG.case_id: 600.0})
    assert all(
        task.forced["b"] is None for task in pool.tasks if task.case == LONG and task.forced["a"] != {"warps": 8}
    )
    # Keys of different cases are looked at together.
    assert [task.case for task in pool.tasks].index(SHORT) < 8


def test_a_key_without_a_prediction_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, (without, _) = told(monkeypatch, [Open("k", CONFIGS, (LONG,))], {("k", None, 8192): None})
    assert not kept
    assert without == [f"k: {LONG.case_id} has no predicted time with the family's own config; see `subquad static`"]
    kept, (without, _) = told(monkeypatch, [Open("k", CONFIGS, (LONG,))], {("k", 2, 8192): LEFT_OUT})
    assert (kept, without) == ({}, ["k: left out by --budget; run the command again"])


def test_keys_are_judged_by_their_smallest_largest_and_middle_case() -> None:
    registry = discover()
    groups = make_plan(registry, load_preset("tiles"), Selection(("retention",), shapes=({"K": 64, "V": 64},)))
    target = target_of("sm_90")
    opened = {each.key: each for each in open_keys(registry, groups, set(), target)}
    output = "scalar_decay/output/head-identity/K64/V64/bfloat16/C64/on-chip"
    assert [case.problem.B for case in opened[output].cases] == [16]
    assert all(1 <= len(each.cases) <= 3 for each in opened.values())
    assert output not in {each.key for each in open_keys(registry, groups, {output}, target)}


@pytest.fixture
def root(tmp_path: Path):
    use_root(tmp_path)
    yield tmp_path
    use_root(Path(__file__).resolve().parents[3])


def table(triton: str, warps: int) -> ChosenTable:
    entries = {"toy": Chosen({"warps": warps}, {}, {}, 3), "own": Chosen({}, {}, {}, 3)}
    return ChosenTable("sm_90", "NVIDIA H200", triton, entries)


@pytest.mark.parametrize(
    ("installed", "warps"), [("3.5.1", 1), ("3.6.0", 1), ("3.8.2", 1), ("3.9.0+git1", 2), ("4.0", 2)]
)
def test_a_compiler_reads_the_table_of_the_newest_older_one(
    root: Path, monkeypatch: pytest.MonkeyPatch, installed: str, warps: int
) -> None:
    monkeypatch.setattr(chosen, "installed_triton", lambda: installed)
    older = table("3.6.0", 1)
    older.entries |= {"old": Chosen({"warps": 1}, {}, {}, 3), "own": Chosen({"warps": 1}, {}, {}, 3)}
    for made in (older, table("3.9.0", 2)):
        write_chosen(path_for(root, "sm_90", made.triton), made)
    with aim(Target("sm_90", "NVIDIA H100")):
        assert choice("toy") == {"warps": warps}
        assert choice("own") == ({"warps": 1} if warps == 1 else None)
        assert choice("other") is None
        # What a newer compiler's table lacks comes from an older one's.
        assert choice("old") == {"warps": 1}
        with forcing({"toy": None}):
            assert choice("toy") is None
    with aim(Target("sm_80", "NVIDIA A100")):
        assert choice("toy") is None


def test_what_was_tuned_on_the_gpu_comes_first(root: Path) -> None:
    write_chosen(path_for(root, "sm_90", chosen.installed_triton()), table("any", 4))
    write_table(path_of(root, "NVIDIA H200"), Table("NVIDIA H200", "sm_90", {"toy": Tuned({"warps": 8}, 1.0, None)}))
    with aim(Target("sm_90", "NVIDIA H200")):
        assert choice("toy") == {"warps": 8}
    with aim(Target("sm_90", "NVIDIA H100")):
        assert choice("toy") == {"warps": 4}


def test_a_table_reads_back_and_a_damaged_one_names_the_file(tmp_path: Path) -> None:
    path = path_for(tmp_path, "sm_90", "3.6.0")
    assert path.name == "sm_90-triton-3.6.json"
    write_chosen(path, table("3.6.0", 4))
    assert read_chosen(path) == table("3.6.0", 4)
    assert tables_for(tmp_path, "sm_90") == [path]
    assert tables_for(tmp_path, "sm_80") == []
    for text in ("{", "[]", '{"schema": 9}', '{"schema": 1, "entries": {"k": {"config": {}}}}'):
        path.write_text(text)
        with pytest.raises(StoreError, match=r"sm_90-triton-3.6.json .*make tiles"):
            read_chosen(path)


def test_two_commands_beside_each_other_keep_what_both_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.json"
    one, other = (_Keeper(path, table("3.6.0", 4), "3.6.0", False) for _ in range(2))
    one.keep("a", Chosen({"warps": 2}, {}, {}, 1))
    other.keep("b", Chosen({"warps": 8}, {}, {}, 1))
    found = read_chosen(path)
    assert found
    assert {"a", "b"} <= set(found.entries)


def test_the_repositorys_tables_hold_keys_that_plans_ask_for() -> None:
    """A key that no plan asks for any more is a config that nothing reads."""
    registry, root = discover(), Path(__file__).resolve().parents[3]
    groups = make_plan(registry, load_preset("tiles"), Selection())
    for path in sorted((root / chosen.FOLDER).glob("*.json")):
        found = read_chosen(path)
        assert found
        asked = {each.key: each.configs for each in open_keys(registry, groups, set(), target_of(found.arch))}
        for key, entry in found.entries.items():
            assert key in asked, f"{path.name}: {key}"
            assert not entry.config or entry.config in asked[key], f"{path.name}: {key}"


KERNEL = """
import torch, triton, triton.language as tl
from suite import Cost, Operator
from suite.draw import qkv
from suite.tuning import choice

@triton.jit
def scale_kernel(x, o, n, TURNS: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    for _ in range(0, TURNS):
        tl.store(o + at, tl.load(x + at, mask=at < n) * 2, mask=at < n)

scaled = Operator("scaled", "o = 2 v", "none", qkv, lambda q, k, v: (2 * v, None), tags=("linear",),
                  cost=lambda p, tunables: Cost(p.T, p.T, 4.0 * p.T), passes=("fwd", "bwd"), stateful=False)

def search(problem, tunables):
    return {"scaled/forward": [{"turns": 64}, {"turns": 8}]}

@scaled.implementation("ours", origin="ours", devices={"cuda"}, passes={"fwd"}, search=search)
def ours(q, k, v):
    o = torch.empty_like(v)
    turns = (choice("scaled/forward") or {"turns": 64})["turns"]
    scale_kernel[(triton.cdiv(v.numel(), 1024),)](v, o, v.numel(), TURNS=turns, BLOCK=1024, num_warps=4)
    return o, None
"""


def test_the_command_writes_the_table_and_continues_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin, out = write(tmp_path, KERNEL, "scaled.py"), tmp_path / "t.json"
    words = ["tiles", "--load", str(plugin), "--op", "scaled", "--head-dim", "64", "--out", str(out)]
    assert main([*words, "--dry-run"]) == 0
    assert "scaled/forward: 2 configs, in scaled/ours/B1_T8192_H16_K64_V64" in capsys.readouterr().out
    assert main(words) == 0
    found = json.loads(out.read_text())
    entry = found["entries"]["scaled/forward"]
    assert (found["arch"], found["gpu"], entry["tried"]) == ("sm_90", "NVIDIA H200", 2)
    assert entry["config"] == {"turns": 8}
    assert all(entry["us"][name] < 0.5 * us for name, us in entry["own_us"].items())
    assert f"table: {out}" in capsys.readouterr().out
    assert main(words) == 0
    assert "0 kernels to choose configs for" in capsys.readouterr().err
    assert main([*words, "--arch", "sm_80"]) == 2
    assert "is the table of sm_90, not of sm_80" in capsys.readouterr().err
