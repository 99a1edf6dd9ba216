"""`bench --paranoid`: what timed calls returned is judged in a process in which no implementation runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from suite.checks.evidence import evidence_name, load, save
from suite.cli import main
from suite.errors import StoreError
from suite.store import read_records
from tests.suite.plugins import RUNNING_MEAN, write

# Implementations that make the check say what they like.
PATCHING = (
    RUNNING_MEAN
    + """
import suite.checks.checker
from suite.checks import oracle
from suite.numerics import Difference

def fault(name):
    return running_mean.implementation(name, origin="ours", passes={"fwd", "fwdbwd"})

def wrong(v):
    return (v * 1.5 + 0 * mean(None, None, v)[0]), None

@fault("patches_differences")
def patches_differences(q, k, v):
    suite.checks.checker.difference = lambda *_: Difference(0.0)
    return wrong(v)

@fault("patches_the_oracle")
def patches_the_oracle(q, k, v):
    object.__setattr__(running_mean, "oracle", lambda q, k, v: wrong(v))
    return wrong(v)

@fault("patches_torch")
def patches_torch(q, k, v):
    torch.Tensor.square = lambda x: torch.zeros_like(x)
    return wrong(v)

@fault("leaves_nothing")
def leaves_nothing(q, k, v):
    import suite.measuring.timed_inputs
    suite.measuring.timed_inputs.save = lambda *_: None
    return mean(q, k, v)

@fault("leaves_garbage")
def leaves_garbage(q, k, v):
    import suite.measuring.timed_inputs
    suite.measuring.timed_inputs.save = lambda path, *_: path.write_bytes(b"{}")
    return mean(q, k, v)

@fault("leaves_another_shape")
def leaves_another_shape(q, k, v):
    import suite.measuring.timed_inputs
    from suite.checks.evidence import save
    suite.measuring.timed_inputs.save = lambda path, parts, shapes: save(path, parts, {n: [1] for n in shapes})
    return mean(q, k, v)
"""
)
WORDS = ["--preset", "smoke", "--rep", "5", "--warmup", "0", "--no-report", "--no-static", "--seq-len", "32"]


def bench(plugin: Path, out: Path, impl: str, *more: str) -> dict[tuple[str, str], dict]:
    main(
        ["bench", "--load", str(plugin), "--op", "running_mean", "--impl", impl, *WORDS, *more, "--out", str(out)],
    )
    return {(record["implementation"], record["pass"]): record for record in read_records(out)}


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("plugin"), PATCHING, "patching.py")


@pytest.mark.parametrize(
    ("impl", "status", "words"),
    [
        pytest.param(
            "patches_differences", "incorrect", "judged in another process: o: error ", marks=pytest.mark.long
        ),
        ("patches_the_oracle", "incorrect", "judged in another process: o: error "),
        pytest.param("patches_torch", "incorrect", "judged in another process: o: error ", marks=pytest.mark.long),
        ("leaves_nothing", "unchecked", "judged in another process: the process that timed it left nothing to judge"),
        pytest.param("leaves_garbage", "incorrect", "is no evidence: KeyError: 'parts'", marks=pytest.mark.long),
        pytest.param(
            "leaves_another_shape",
            "incorrect",
            "judged in another process: o: shape [1], not [1, 32, ",
            marks=pytest.mark.long,
        ),
    ],
)
def test_who_changes_its_own_process_has_no_time(
    impl: str, status: str, words: str, plugin: Path, tmp_path: Path
) -> None:
    found = bench(plugin, tmp_path / "run", impl, "--pass", "fwd", "--paranoid")[impl, "fwd"]
    assert found["status"] == status, found["reason"]
    assert words in found["reason"]
    assert found["witnessed"] is False
    assert "time_ms" not in found


def test_who_is_right_is_witnessed(plugin: Path, tmp_path: Path) -> None:
    honest = bench(plugin, tmp_path / "run", "torch", "--pass", "fwd,fwdbwd", "--paranoid")
    assert [(record["status"], record["witnessed"]) for record in honest.values()] == [("ok", True)] * 2


@pytest.mark.long
def test_one_process_alone_believes_what_was_patched(plugin: Path, tmp_path: Path) -> None:
    """Why the other one is offered."""
    believed = bench(plugin, tmp_path / "other", "patches_differences", "--pass", "fwd")
    assert [(record["status"], record.get("witnessed")) for record in believed.values()] == [("ok", None)]


def test_evidence_is_read_as_it_was_written_or_refused(tmp_path: Path) -> None:
    path = tmp_path / evidence_name("a/b/c", "warm-cpu", 0)
    parts = {"o": torch.randn(2, 3).bfloat16(), "dq": torch.randn(4), "state": torch.empty(0, 5)}
    save(path, parts, {"o": [2, 6]})
    read, shapes = load(path)
    assert shapes == {"o": [2, 6]}
    assert all(torch.equal(read[name], x) and read[name].dtype == x.dtype for name, x in parts.items())
    data = path.read_bytes()
    for wrong in (
        b"",
        b"[]\n",
        b"{}\n",
        data[:-1],
        data + b"\0",
        data.replace(b"bfloat16", b"bfloat17"),
        data.replace(b"[2, 3]", b"[2,-3]"),
        data.replace(b"[2, 3]", b"[9e9,3]"),
        data.replace(b"[2, 3]", b"[99999999999,3]"),
        b"[" * 100_000,
    ):
        path.write_bytes(wrong)
        with pytest.raises(StoreError, match="is no evidence: "):
            load(path)
    path.unlink()
    with pytest.raises(StoreError, match="is no evidence: FileNotFoundError"):
        load(path)
