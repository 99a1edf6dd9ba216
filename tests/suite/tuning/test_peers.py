"""What peers' autotuners would choose: the key, the table, and the one configuration that a profile compiles then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from suite.cli import main
from suite.errors import StoreError
from suite.problem import Case, Problem
from suite.static import capture
from suite.static.capturing import Recorder
from suite.static.kept import Keys
from suite.static.model import Launch, Profile, Tuning
from suite.static.tasks import Task
from suite.tuning import chosen, peers
from suite.tuning.chosen import PEERS, Chosen, ChosenTable, installed_triton, path_for, write_chosen
from tests.suite.static import toys


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout without tables of peers."""
    monkeypatch.setattr(peers, "_ROOT", tmp_path)
    peers._by_size.cache_clear()
    yield tmp_path
    peers._by_size.cache_clear()


def write(root: Path, entries: dict[str, dict[str, int]], triton: str = "") -> None:
    path = path_for(root, "sm_90", triton or installed_triton(), PEERS)
    path.parent.mkdir(parents=True, exist_ok=True)
    made = {key: Chosen(config, {"case": 1.0}, {"case": 2.0}, 3) for key, config in entries.items()}
    write_chosen(path, ChosenTable("sm_90", "NVIDIA H200", triton or installed_triton(), made))


def tuning_of(N: int) -> Tuning:
    (found,) = [launch.tuning for launch in capture(lambda: toys.tuned(N), "sm_90", all_configs=True) if launch.tuning]
    return found


def config(block: int, warps: int) -> dict[str, int]:
    return {"BLOCK": block, "num_warps": warps, "num_ctas": 1, "num_stages": 3}


def test_a_key_has_what_the_choice_depends_on() -> None:
    tuner: Any = SimpleNamespace(
        nargs={"x": torch.empty(4, 6, dtype=torch.bfloat16), "n": 6},
        arg_names=["x", "y", "n", "T"],
        keys=["n", "absent"],
        base_fn=toys.tuned_kernel.base_fn,
    )
    named = {"y": torch.empty(3), "T": 4, "grid": (1,)}
    assert peers.key_of(tuner, named) == f"{toys.tuned_kernel.base_fn.__name__}/n=6/bf16,fp32/24"


def test_all_configurations_are_predicted_where_all_are_asked_for(root: Path) -> None:
    found = tuning_of(4000)
    launches = capture(lambda: toys.tuned(4000), "sm_90", all_configs=True)
    times = [each.predicted.ms * 1e3 for each in launches[1:] if each.predicted and each.predicted.ms]
    assert (found.us, found.first_us, found.tried) == (min(times), times[0], 3)
    assert "N=4000" in found.key
    assert found.key.endswith("/4000")
    assert str(found.config["num_warps"]) in launches[0].config
    (launch,) = capture(lambda: toys.tuned(4000), "sm_90")
    assert launch.tuning is None


def test_a_profile_compiles_what_the_table_has_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stem, _, _ = tuning_of(4000).key.rpartition("/")
    (free,) = capture(lambda: toys.tuned(4000), "sm_90")
    peers._by_size.cache_clear()
    write(root, {f"{stem}/4000": config(1024, 8)})
    tried = list[Any]()
    few = Recorder._few
    monkeypatch.setattr(Recorder, "_few", lambda self, configs: tried.append(found := few(self, configs)) or found)
    (launch,) = capture(lambda: toys.tuned(4000), "sm_90")
    assert launch.warps == 8 != free.warps
    assert [len(each) for each in tried] == [1]


def test_the_nearest_size_decides(root: Path) -> None:
    write(root, {"kernel/K=64/bf16/1000": config(256, 2), "kernel/K=64/bf16/64000": config(1024, 8)})
    for size, warps, near in (
        (10, 2, False),
        (251, 2, True),
        (1000, 2, True),
        (7000, 2, False),
        (9000, 8, False),
        (255_000, 8, True),
        (10**7, 8, False),
    ):
        found, own = peers.chosen_for("sm_90", f"kernel/K=64/bf16/{size}")
        assert found
        assert own == near
        assert found["num_warps"] == warps
    assert peers.chosen_for("sm_90", "kernel/K=128/bf16/1000") == (None, False)
    assert peers.chosen_for("sm_80", "kernel/K=64/bf16/1000") == (None, False)


def test_another_number_of_heads_does_where_it_is_all_there_is(root: Path) -> None:
    write(root, {"kernel/H=16/HV=16/K=64/bf16/1000": config(256, 2), "kernel/H=4/HV=4/K=64/bf16/1000": config(512, 1)})
    for heads, warps in ((4, 1), (16, 2)):
        found, own = peers.chosen_for("sm_90", f"kernel/H={heads}/HV={heads}/K=64/bf16/1000")
        assert found
        assert own
        assert found["num_warps"] == warps
    assert peers.chosen_for("sm_90", "kernel/H=8/HV=32/K=64/bf16/900")[0]
    assert peers.chosen_for("sm_90", "kernel/H=8/HV=32/K=65/bf16/900") == (None, False)


def test_what_another_compiler_s_table_has_is_tried_beside_others(root: Path) -> None:
    stem, _, _ = tuning_of(4000).key.rpartition("/")
    write(root, {f"{stem}/4000": config(1024, 8)}, triton="3.1.0")
    peers._by_size.cache_clear()
    (launch,) = capture(lambda: toys.tuned(4000), "sm_90")
    assert launch.warps == tuning_of(4000).config["num_warps"] != 8


def test_a_config_that_the_list_no_longer_has_is_passed_over(root: Path) -> None:
    stem, _, _ = tuning_of(4000).key.rpartition("/")
    write(root, {f"{stem}/4000": config(8192, 8)})
    peers._by_size.cache_clear()
    (launch,) = capture(lambda: toys.tuned(4000), "sm_90")
    assert launch.warps == tuning_of(4000).config["num_warps"]


def test_a_damaged_table_is_named(root: Path) -> None:
    write(root, {})
    path = path_for(root, "sm_90", installed_triton(), PEERS)
    path.write_text("{")
    with pytest.raises(StoreError, match=r"baselines/tiles/sm_90-triton-.*run `make tiles`"):
        peers.chosen_for("sm_90", "kernel/K=64/bf16/1000")


def test_a_table_changes_kept_profiles_but_not_those_that_make_it(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("retention", "fla_chunk", Problem())
    names = []
    for files in ([], [Path(__file__)]):
        monkeypatch.setattr(chosen, "tables_for", lambda root, arch, folder=None, files=files: files if folder else [])
        keys = Keys()
        names.append([keys.of("profiles", Task(case, "sm_90", all_configs=each)).name for each in (False, True)])
    (before, making), (after, made) = names
    assert before != after
    assert making == made


def test_choices_of_cases_are_told_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, broken = (Case("toy", name, Problem()) for name in ("a", "b", "c"))
    tuning = Tuning("kernel/1", config(256, 2), 2.04, 3.0, 5)
    profiles = [
        Profile(first.case_id, "sm_90", launches=(Launch("kernel", (1, 1, 1), tuning=tuning), Launch("k", (1, 1, 1)))),
        Profile(second.case_id, "sm_90", launches=(Launch("kernel", (1, 1, 1), tuning=tuning),)),
        Profile(broken.case_id, "sm_90", "unsupported", "no kernel"),
    ]
    other = Tuning("kernel/1", config(512, 1), 9.0, 9.5, 5)
    differs = Case("toy", "d", Problem())
    profiles.append(Profile(differs.case_id, "sm_90", launches=(Launch("kernel", (1, 1, 1), tuning=other),)))
    tasks = list[Task]()
    monkeypatch.setattr("suite.static.pool.take_profiles", lambda given, **_: tasks.extend(given) or profiles)
    kept = dict[str, Chosen]()
    without = peers.choose_for_peers([first, second, broken, differs], "sm_90", kept.__setitem__)
    us = {first.case_id: 2.0, second.case_id: 2.0}
    assert kept == {"kernel/1": Chosen(config(256, 2), us, dict.fromkeys(us, 3.0), 5)}
    assert without == [f"{broken.case_id}: unsupported: no kernel"]
    assert all(task.all_configs and not task.issued for task in tasks)


def test_the_command_takes_cases_of_peers_alone(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tiles", "--peers", "--dry-run", "--op", "retention", "--head-dim", "64", "--batch", "1", "--pass", "fwd"]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert "retention/fla_chunk/" in shown.out
    assert "triton_chunk" not in shown.out
    assert "cases of other libraries" in shown.err


def test_the_table_that_is_kept_names_configs_of_its_compiler() -> None:
    """The file of the repository: every entry has a key with a size, a whole config, and what it gained."""
    for path in sorted((Path(__file__).parents[3] / PEERS).glob("*.json")):
        for key, entry in json.loads(path.read_text())["entries"].items():
            assert int(key.rpartition("/")[2]) >= 0
            assert {"num_warps", "num_stages"} <= set(entry["config"])
            assert entry["tried"] >= 1
            assert set(entry["us"]) == set(entry["own_us"]) != set()
            assert all(entry["us"][case] <= entry["own_us"][case] + 0.1 for case in entry["us"])
