"""What a run says of its machine and its code, and its budget."""

import subprocess
from pathlib import Path

import pytest

from suite.errors import UsageError
from suite.hardware.environment import describe, head, revision
from suite.problem import Problem
from suite.running.budget import Budget, parse_duration


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


def test_describe() -> None:
    found = describe("cpu")
    assert set(found["fingerprint"]) - {"cpu_quota"} == {
        "device",
        "sms",
        "power_limit_w",
        "driver",
        "cuda",
        "torch",
        "triton",
        "python",
        "cpu",
        "threads",
    }
    assert found["device"]["kind"] == "cpu"
    assert found["device"]["llc_bytes"] > 0
    assert found["versions"]["torch"] == found["fingerprint"]["torch"]


def test_revision(tmp_path: Path) -> None:
    assert revision(tmp_path / "nowhere") == ""
    git(tmp_path, "init")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "a")
    clean = revision(tmp_path)
    assert len(clean) == 40
    (tmp_path / "a").write_text("2")
    head.cache_clear()
    assert revision(tmp_path) == f"{clean}-dirty"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("8m", 480), ("1.5h", 5400), ("1h30m", 5400), ("1h30m5s", 5405)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "8x", "8 m", "-3s", "0", "0m"])
def test_no_durations(text: str) -> None:
    with pytest.raises(UsageError, match="--budget"):
        parse_duration(text)


def test_budget_predicts_from_what_was_measured() -> None:
    from suite.plan import Group

    now = [0.0]
    budget = Budget(10.0, clock=lambda: now[0])
    short, long = (Group("op", Problem(T=T), ()) for T in (100, 400))
    assert budget.fits(long)
    budget.note(short, 1.5)
    now[0] = 1.5
    assert budget.predict(long) == 6.0
    assert budget.fits(long)
    now[0] = 4.5
    assert not budget.fits(long)
    assert budget.fits(short)
    assert Budget(None).fits(long)


def test_what_is_left_of_a_budget() -> None:
    now = [0.0]
    budget = Budget(10.0, clock=lambda: now[0], reserve=2.0)
    assert (budget.left, budget.within(3.0), budget.within(300.0), budget.over) == (8.0, 3.0, 8.0, False)
    now[0] = 9.0
    assert (budget.left, budget.within(3.0), budget.over) == (-1.0, 0.0, True)
    assert (Budget().left, Budget().within(3.0), Budget().over) == (None, 3.0, False)


def test_budget_sees_quadratic_growth() -> None:
    from suite.plan import Group

    budget = Budget(100.0)
    for T, seconds in ((100, 1.0), (200, 4.0)):
        budget.note(Group("op", Problem(T=T), ()), seconds)
    assert budget.predict(Group("op", Problem(T=800), ())) == pytest.approx(64.0)
    assert budget.predict(Group("other", Problem(T=800), ())) == 0.0
