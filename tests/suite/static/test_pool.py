"""The pool: worker processes take the profiles, and outlive what kills one of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.errors import DiscoveryError, IncomparableError
from suite.problem import Case, Problem, Value
from suite.static import Profile, counts
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


def test_issued_traffic_and_the_second_time_from_the_caches(root: str, own_cache: Path) -> None:
    """Three reads of every element and one write are four bytes moved for each two of launch traffic's.

    The second time nothing is compiled and nothing is counted again: the caches stay as they are.
    """

    def cached() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (own_cache / "static").rglob("*") if path.is_file()}

    tasks = [task(root, "rereading", ("reads", reads), issued=True) for reads in (3, 1)]
    first = take(*tasks)
    thrice, once = (each.columns() for each in first)
    assert thrice["static.traffic_bytes"] == once["static.traffic_bytes"]
    assert (thrice["static.issued_reread"], once["static.issued_reread"]) == (2.0, 1.0)
    assert (thrice["static.issued_ratio"], once["static.issued_ratio"]) == (2.0, 1.0)
    assert once["static.issued_bytes"] == 2 * 2 * 256 * 64
    assert once["static.issued_shape"] == "B1_T256_H1_K64_V64_fp16_fwd"
    kept = cached()
    assert any("issued" in path.parts for path in kept)
    assert any(path.suffix == ".cubin" for path in kept)
    assert take(*tasks) == first
    assert cached() == kept


def test_a_count_is_kept_as_long_as_its_sources(root: str, tmp_path: Path) -> None:
    copy = mini(tmp_path)
    tasks = [task(copy, "triton"), task(copy, "wasteful")]
    first = counts.keys_of(tasks, [PLUGIN])
    assert len(set(first)) == 2
    assert counts.keys_of(tasks, [PLUGIN]) == first
    source = Path(copy) / "kernels" / "doubling.py"
    source.write_text(source.read_text().replace("value * 2", "value * 3"))
    assert not set(counts.keys_of(tasks, [PLUGIN])) & set(first)


def test_other_checkouts_are_profiled_beside_this_one(root: str, tmp_path: Path) -> None:
    other = mini(tmp_path, warps=8)
    first, second, third = take_profiles([task(root, "triton"), task(other, "triton"), task(root, "nothing")], jobs=1)
    assert first
    assert second
    assert (first.launches[0].warps, second.launches[0].warps) == (4, 8)
    assert third is None
    assert "double/triton" in names(root, "sm_90")


def test_a_plugin_is_loaded_beside_this_checkouts_kernels() -> None:
    (found,) = take_profiles([task("", "triton")], load=[PLUGIN], jobs=1)
    assert found
    assert found.status == "ok"


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

        def __init__(self, key, load, start_s):
            self.key = key
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
