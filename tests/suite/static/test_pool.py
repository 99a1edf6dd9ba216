"""The pool: worker processes take the profiles, and outlive what kills one of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from suite.discovery import ROOT
from suite.errors import DiscoveryError, IncomparableError, UsageError
from suite.hardware.assemblers import VARIABLES, assemblers, version_for
from suite.problem import Case, Problem, Value
from suite.static import Profile, kept, pool
from suite.static.kept import Key, Keys
from suite.static.pool import names, take_profiles
from suite.static.tasks import Task

PLUGIN = str(Path(__file__).parent / "plugin.py")
PROBLEM = Problem(B=2, T=1024, H=2, K=64)


def mini(folder: Path, warps: int = 4) -> str:
    """A checkout with the plug-in's operator in kernels/ and nothing else: its workers start faster."""
    for package in ("kernels", "baselines"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text("")
    source = Path(PLUGIN).read_text().replace("num_warps=4", f"num_warps={warps}")
    (folder / "kernels" / "doubling.py").write_text(source)
    return str(folder.resolve())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return mini(tmp_path_factory.mktemp("checkout"))


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Once called, a worker that is started is an error."""

    def started(*_: Any) -> None:
        raise AssertionError("a worker was started")

    return lambda: monkeypatch.setattr(pool, "WorkerProcess", started)


def task(root: str, name: str, *tunables: tuple[str, Value], issued: bool = False) -> Task:
    return Task(Case("double", name, PROBLEM, tunables), "sm_90", issued=issued, root=root)


def take(*tasks: Task, jobs: int = 1) -> list[Profile]:
    found = take_profiles(tasks, jobs=jobs)
    assert None not in found
    return [each for each in found if each]


def test_order_statuses_and_a_death(root: str) -> None:
    """The implementation that ends the process has its own record, and so have those around it."""
    wanted = ["triton", "fatal", "by_value", "wasteful", "unfinished"]
    found = take(*(task(root, name) for name in wanted), jobs=2)
    assert [each.case_id.split("/")[1] for each in found] == wanted
    assert [each.status for each in found] == ["ok", "crashed", "unsupported", "ok", "compile_error"]
    assert "code 7" in found[1].reason


def test_the_ptxas_that_a_variable_names_compiles_and_is_told(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = take(task(root, "triton"))[0].columns()
    # Which of the two serves sm_90 differs between versions of Triton.
    bundled = next(each for each in assemblers().values() if each.version == version_for(90))
    assert own["static.ptxas"] == bundled.version
    release = bundled.version.rpartition(".")[0]
    told, other = tmp_path / "told", tmp_path / "ptxas"
    other.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = --version ]; then echo "release {release}, V{release}.999"; exit; fi\n'
        f'echo "$@" >> {told}\nexec {bundled.path} "$@"\n'
    )
    other.chmod(0o755)
    monkeypatch.setenv(VARIABLES[bundled.name], str(other))
    found = take(task(root, "triton"))[0].columns()
    assert found["static.ptxas"] == f"{release}.999"
    assert "--gpu-name=sm_90a" in told.read_text()


@pytest.mark.parametrize("place", ["triton", pytest.param("binaries", marks=pytest.mark.long)])
def test_a_cache_that_can_not_be_written_is_no_fault_of_the_kernel(
    root: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a full disk the whole command says so; a compile error would stand in the run as the kernel's."""
    monkeypatch.setenv("SUBQUAD_CACHE", str(tmp_path))
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / place).write_text("a file where a folder must be")
    with pytest.raises(UsageError, match=rf"static/{place}.*; set SUBQUAD_CACHE to a folder"):
        take(task(root, "triton"))


def test_issued_traffic_and_the_second_time_from_the_cache(root: str, no_worker: Callable[[], None]) -> None:
    """Three reads of every element and one write are four bytes moved for each two of launch traffic's.

    The second time no worker is started, and the answers are the same.
    """
    tasks = [task(root, "rereading", ("reads", reads), issued=True) for reads in (3, 1)]
    first = take(*tasks)
    thrice, once = (each.columns() for each in first)
    assert thrice["static.traffic_bytes"] == once["static.traffic_bytes"]
    assert (thrice["static.issued_reread"], once["static.issued_reread"]) == (2.0, 1.0)
    assert (thrice["static.issued_ratio"], once["static.issued_ratio"]) == (2.0, 1.0)
    assert once["static.issued_bytes"] == 2 * 2 * 256 * 64
    assert once["static.issued_shape"] == "B1_T256_H1_K64_V64_bf16_fwd"
    registered = names(root, "sm_90")
    no_worker()
    assert take(*tasks) == first
    assert names(root, "sm_90") == registered
    with pytest.raises(AssertionError, match="a worker was started"):
        take_profiles(tasks, jobs=1, refresh=True)


@pytest.mark.long
def test_what_chance_or_an_edit_may_decide_is_taken_again(root: str, no_worker: Callable[[], None]) -> None:
    """A crash may not come again, and a compiler's message quotes lines that move; what is unsupported stays so."""
    assert [each.status for each in take(task(root, "by_value"), task(root, "large"))] == ["unsupported", "over_limit"]
    assert [each.status for each in take(task(root, "fatal"), task(root, "unfinished"))] == ["crashed", "compile_error"]
    no_worker()
    take(task(root, "by_value"), task(root, "large"))
    for name in ("fatal", "unfinished"):
        with pytest.raises(AssertionError, match="a worker was started"):
            take(task(root, name))


def test_a_damaged_entry_is_taken_again(root: str, own_cache: Path) -> None:
    wanted = task(root, "wasteful")
    path = Keys().of("profiles", wanted).path
    (first,) = take(wanted)
    whole = path.read_text()
    for damaged in ("", whole[: len(whole) // 2], whole.replace("wasteful", "careless"), "{}", "\0"):
        path.write_text(damaged)
        assert kept.recall(Keys().of("profiles", wanted)) is None
    path.write_bytes(b"\xff" + whole.encode())
    assert take(wanted) == [first]
    assert path.read_text() == whole


def test_what_is_kept_costs_no_budget(root: str) -> None:
    from suite.running.budget import Budget

    take(task(root, "triton"))
    found = take_profiles([task(root, "triton"), task(root, "step")], jobs=1, budget=Budget(1e-9))
    assert [each and each.status for each in found] == ["ok", "left_out"]


def name_of(wanted: Task, load: Sequence[str] = ()) -> str:
    return Keys(load).of("profiles", wanted).name


def test_a_key_is_of_all_that_may_change_a_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = mini(tmp_path / "copy")
    first = task(copy, "triton")
    seen = {name_of(first)}
    assert name_of(first) in seen

    def is_new(name: str) -> bool:
        found = name not in seen
        seen.add(name)
        return found

    case = first.case
    assert is_new(name_of(task(copy, "wasteful")))
    assert is_new(name_of(replace(first, case=replace(case, problem=PROBLEM.replace(dtype="float16")))))
    assert is_new(name_of(replace(first, case=replace(case, problem=PROBLEM.replace(T=2048)))))
    assert is_new(name_of(replace(first, case=replace(case, tunables=(("reads", 1),)))))
    assert is_new(name_of(replace(first, arch="sm_80")))
    assert is_new(name_of(replace(first, gpu="NVIDIA H100 80GB HBM3")))
    assert is_new(name_of(replace(first, all_configs=True)))
    assert is_new(Keys().of("issued", first, T=256).name)
    with monkeypatch.context() as changed:
        changed.setattr("triton.__version__", "9.9.9")
        assert is_new(name_of(first))
    with monkeypatch.context() as changed:
        changed.setattr("suite.hardware.environment.library_versions", lambda: {"torch": "9.9.9"})
        assert is_new(name_of(first))
    with monkeypatch.context() as changed:
        changed.setenv("DISABLE_PTXAS_OPT", "1")
        assert is_new(name_of(first))
    other = tmp_path / "bin" / "ptxas"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 99.9, V99.9.9'\n")
    other.chmod(0o755)
    with monkeypatch.context() as changed:
        changed.setenv("TRITON_PTXAS_PATH", str(other))
        assert is_new(name_of(first))
    tuned = Path(copy) / "kernels" / "tuned" / "nvidia-h200.json"
    tuned.parent.mkdir()
    tuned.write_text("{}")
    assert is_new(name_of(first))
    source = Path(copy) / "kernels" / "doubling.py"
    source.write_text(source.read_text().replace("value * 2", "value * 3"))
    assert is_new(name_of(first))


def test_a_key_has_the_code_that_reads_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that was kept before the suite read something new of a kernel is not taken for one without it."""
    shutil.copytree(ROOT / "suite", tmp_path / "suite")
    monkeypatch.setattr("suite.static.kept.ROOT", tmp_path)
    wanted = task(mini(tmp_path / "copy"), "triton")
    before = name_of(wanted)
    assert name_of(wanted) == before
    source = tmp_path / "suite" / "static" / "dots.py"
    source.write_text(source.read_text() + "\nMORE = 1\n")
    assert name_of(wanted) != before


@pytest.mark.long
def test_an_implementation_has_the_code_that_it_imports_and_no_other(tmp_path: Path) -> None:
    """Of this checkout: a plug-in's file counts, and a change of it leaves other keys as they were only without it."""
    plugin = tmp_path / "doubling.py"
    plugin.write_text(Path(PLUGIN).read_text().replace('name="double"', 'name="twice"'))
    twice = Task(Case("twice", "triton", PROBLEM), "sm_90", issued=False)
    retention = Task(Case("retention", "triton_chunk", PROBLEM), "sm_90", issued=False)
    ssd = Task(Case("ssd", "triton_chunk", PROBLEM), "sm_90", issued=False)
    before, alone = name_of(twice, [str(plugin)]), Keys().of("profiles", retention)
    assert name_of(twice, [str(plugin)]) == before
    plugin.write_text(plugin.read_text() + "\n")
    assert name_of(twice, [str(plugin)]) != before
    assert alone.stamps.keys() != Keys().of("profiles", ssd).stamps.keys()
    read = {path.relative_to(ROOT).parts[:3] for path in alone.stamps}
    assert ("kernels", "scalar_decay", "retention") in read
    assert ("kernels", "scalar_decay", "ssd") not in read


@pytest.mark.long
def test_what_a_plugin_imports_inside_a_function_is_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin, helper = tmp_path / "lazily.py", tmp_path / "lazily_helping" / "deep.py"
    helper.parent.mkdir()
    (helper.parent / "__init__.py").write_text("")
    helper.write_text("WARPS = 4\n")
    late = "\n\ndef later():\n    from lazily_helping.deep import WARPS\n\n    return WARPS\n"
    plugin.write_text(Path(PLUGIN).read_text().replace('name="double"', 'name="lazy_double"') + late)
    lazy = Task(Case("lazy_double", "triton", PROBLEM), "sm_90", issued=False)
    before = name_of(lazy, [str(plugin)])
    assert name_of(lazy, [str(plugin)]) == before
    helper.write_text("WARPS = 8\n")
    assert name_of(lazy, [str(plugin)]) != before


def test_what_was_edited_while_a_worker_ran_is_not_kept(tmp_path: Path) -> None:
    copy = mini(tmp_path / "copy", warps=2)
    key = Keys().of("profiles", task(copy, "triton"))
    source = Path(copy) / "kernels" / "doubling.py"
    before = source.read_text()
    source.write_text(before.replace("value * 2", "value * 33"))
    kept.keep(key, {"profile": {"status": "ok"}})
    assert kept.recall(key) is None
    key = Keys().of("profiles", task(copy, "triton"))
    kept.keep(key, {"profile": {"status": "ok"}})
    assert kept.recall(key) == {"profile": {"status": "ok"}}


def test_what_the_cache_does_not_take_is_told_and_costs_no_profile(
    own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked, full = Key("a", "blocked", {}), Key("b", "full", {})
    blocked.path.mkdir(parents=True)
    full.path.parent.write_text("a file where the folder would be")
    for key in (blocked, full, full):
        kept.keep(key, {"names": []})
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in told] == ["note", "note"]
    assert "not kept in" in told[1]
    assert [path.name for path in blocked.path.parent.iterdir()] == ["a.json"]


def test_what_was_used_last_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBQUAD_CACHE", str(tmp_path))
    keys = [Key(f"key{i}", "profiles", {}) for i in range(4)]
    for age, key in enumerate(keys):
        kept.keep(key, {"profile": {"status": "ok"}})
        os.utime(key.path, ns=(age * 10**9, age * 10**9))
    assert kept.recall(keys[0])
    kept.prune("profiles", most=2)
    assert [key.name for key in keys if kept.recall(key)] == ["key0", "key3"]
    assert len(list((tmp_path / "static" / "profiles").iterdir())) == 2


def test_other_checkouts_are_profiled_beside_this_one(root: str, tmp_path: Path) -> None:
    other = mini(tmp_path, warps=8)
    first, second, third = take_profiles([task(root, "triton"), task(other, "triton"), task(root, "nothing")], jobs=1)
    assert first
    assert second
    assert (first.launches[0].warps, second.launches[0].warps) == (4, 8)
    assert third is None
    assert "double/triton" in names(root, "sm_90")


@pytest.mark.long
def test_a_plugin_is_loaded_beside_this_checkouts_kernels() -> None:
    (found,) = take_profiles([task("", "triton")], load=[PLUGIN], jobs=1)
    assert found
    assert found.status == "ok"


def test_a_plugin_of_another_checkout_is_not_loaded_in_this_process(tmp_path: Path) -> None:
    """Loaded here beside this tree's own, it would register its implementations twice."""
    root = mini(tmp_path / "base")
    plugin = Path(root) / "extra.py"
    plugin.write_text("import os\nos._exit(3)\n")
    (Path(root) / "near.py").write_text("WARPS = 4\n")

    def key() -> str:
        return Keys([str(plugin)], {root}).of("profiles", task(root, "triton")).name

    first = key()
    assert key() == first
    # What it may import is in the key.
    (Path(root) / "near.py").write_text("WARPS = 8\n")
    assert key() != first


def test_a_checkout_that_does_not_load_says_why(tmp_path: Path) -> None:
    bad = mini(tmp_path / "bad")
    (Path(bad) / "kernels" / "broken.py").write_text("raise ValueError('half an edit')")
    with pytest.raises(IncomparableError, match="half an edit"):
        take_profiles([task(bad, "triton")], jobs=1)
    plugin = tmp_path / "bad.py"
    plugin.write_text("import no_such_library")
    with pytest.raises(DiscoveryError, match="no_such_library"):
        take_profiles([task("", "triton")], load=[str(plugin)], jobs=1)


def test_a_budget_that_has_ended_starts_no_worker(monkeypatch):
    from suite.running.budget import Budget
    from suite.static import pool

    monkeypatch.setattr(pool, "_Worker", lambda *_: pytest.fail("a worker was started"))
    found = take_profiles([task("", "triton"), task("", "nothing")], jobs=2, budget=Budget(1e-9))
    assert [each.status for each in found if each] == [pool.LEFT_OUT] * 2


@pytest.mark.parametrize("waits_for", ["start", "ask"])
def test_a_budget_that_ends_in_a_profile_leaves_the_rest_out(monkeypatch, waits_for):
    from suite.errors import DiscoveryError
    from suite.running.budget import Budget
    from suite.running.messages import Disconnected
    from suite.static import pool

    now, waited = [0.0], []

    class Slow:
        """A worker that is waited for until the budget ends."""

        lost_status = "timeout"

        def __init__(self, place, load, start_s):
            self.place = place
            if waits_for == "start":
                self.wait(start_s, DiscoveryError)

        def ask(self, request, timeout_s):
            self.wait(timeout_s, Disconnected)

        def wait(self, seconds, error):
            waited.append(seconds)
            now[0] += seconds
            raise error("nothing")

        def close(self):
            pass

    monkeypatch.setattr(pool, "_Worker", Slow)
    budget = Budget(5.0, clock=lambda: now[0])
    found = take_profiles([task("", "triton"), task("", "nothing")], jobs=1, budget=budget)
    assert [each.status for each in found if each] == [pool.LEFT_OUT] * 2
    assert waited == [5.0]
