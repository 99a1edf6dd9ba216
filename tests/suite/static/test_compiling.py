"""Compiling ahead: a run as on the device finds every kernel in its cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from suite.checks.checker import BACKWARD_T
from suite.cli import main
from suite.discovery import ROOT
from suite.errors import Exit
from suite.problem import Case, Problem
from suite.running.compiled import folder_of
from suite.static.compiling import calls_of
from suite.static.kept import Keys
from suite.static.tasks import Ahead

PLUGIN = str(Path(__file__).parent / "launched.py")
SHAPE = Problem(B=1, T=208, H=1, K=32)


def launch(cache: str, cases: list[Any], *plugins: str, **variables: str) -> dict[str, list[str]]:
    """The kernels that a fresh process found in a cache, and those that it had to compile, as it ran the cases."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.suite.static.launching", json.dumps(cases), *plugins],
        env={**os.environ, "TRITON_CACHE_DIR": cache, "PYTHONPATH": python_path(), **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def python_path() -> str:
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def case(implementation: str, problem: Problem = SHAPE, operator: str = "launched") -> list[Any]:
    return [operator, implementation, problem.columns(), {}]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run to be; beside it a preset of one shape."""
    monkeypatch.delenv("TRITON_CACHE_DIR", raising=False)
    sizes = "T = [208]\nH = [1]\nK = [32]\npass = ['fwd']\n"
    (tmp_path / "one.toml").write_text(f"[[sweep]]\n{sizes}")
    return tmp_path / "run"


def words_of(run: Path, *words: str) -> list[str]:
    """`subquad compile` with the plug-in for sm_90, into the cache of a run."""
    preset = str(run.parent / "one.toml")
    return [
        "compile",
        "--load",
        PLUGIN,
        "--op",
        "launched",
        "--arch",
        "sm_90",
        "--preset",
        preset,
        "--out",
        str(run),
        *words,
    ]


def summary_of(capsys: pytest.CaptureFixture[str], run: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the summary of the command."""
    capsys.readouterr()
    code = main(words_of(run, *words, "--json"))
    return code, json.loads(capsys.readouterr().out)


def test_a_run_finds_what_was_compiled_ahead(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, first = summary_of(capsys, run, "--impl", "special", "--pass", "fwd")
    assert (code, first["failures"], first["found"]) == (Exit.PASS, [], 0)
    found = launch(folder_of(run), [case("special")], PLUGIN)
    assert (found["misses"], len(found["hits"]), set(found["hits"])) == ([], first["compiled"], {"special_kernel"})


@pytest.mark.long
def test_a_run_compiles_nothing_that_was_compiled_ahead(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also the second time nothing is, and no worker starts; a setting of Triton's that it hashes makes it compile."""
    words = ("--impl", "special,rows,tuned", "--pass", "fwd,fwdbwd")
    code, first = summary_of(capsys, run, *words, "--jobs", "2")
    assert (code, first["failures"], first["uncovered"], first["found"]) == (Exit.PASS, [], [], 0)
    # The autotuner's last configuration does not compile, which is no failure.
    assert first["refused"] == 1
    wanted = [case("special"), case("special", SHAPE.replace(pass_="fwdbwd")), case("rows"), case("tuned")]
    cache = folder_of(run)
    assert not list(Path(cache).rglob("*autotune.json"))
    code, again = summary_of(capsys, run, *words)
    assert (code, again["compiled"], again["found"]) == (Exit.PASS, 0, first["compiled"])
    found = launch(cache, wanted, PLUGIN)
    assert (found["misses"], len(found["hits"])) == ([], first["compiled"])
    assert set(found["hits"]) == {"special_kernel", "backward_kernel", "rows_kernel", "tuned_kernel"}
    # As on the device the autotuner has stored its choice now: of a cache that is filled again, that one alone.
    (choice,) = Path(cache).rglob("*autotune.json")
    assert launch(cache, [case("rows")], PLUGIN, TRITON_DISABLE_LINE_INFO="1")["misses"] == ["rows_kernel"]
    timings = json.loads(choice.read_text())
    timings["configs_timings"] = [
        [config, [float(config["num_warps"])] * 3] for config, _ in timings["configs_timings"]
    ]
    choice.write_text(json.dumps(timings))
    for entry in Path(cache).rglob("tuned_kernel.json"):
        entry.unlink()
    code, chosen = summary_of(capsys, run, "--impl", "tuned")
    assert (code, chosen["compiled"], chosen["found"]) == (Exit.PASS, 1, 0)
    assert json.loads(choice.read_text()) == timings


def test_one_kernel_that_fails_costs_its_own_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(words_of(run, "--impl", "broken,by_value", "--jobs", "1")) == Exit.REGRESSION
    told = capsys.readouterr()
    (failed,) = (line for line in told.err.splitlines() if line.startswith("does not compile: "))
    assert failed.startswith("does not compile: launched/broken/B1_T208_H1_K32_V32_bf16_fwd: broken_kernel: ")
    (left,) = (line for line in told.err.splitlines() if line.startswith("not compiled ahead: "))
    assert "launched/by_value" in left
    assert "depends on tensor values" in left
    assert told.out.startswith("1 kernels compiled in ")
    assert told.out.rstrip().endswith("1 failed")


def test_without_a_gpu_the_architecture_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "--op", "retention"]) == Exit.USAGE
    assert "there is no GPU here; name the architecture to compile for, such as --arch sm_90" in capsys.readouterr().err
    assert main(["compile", "--op", "retention", "--gpu", "NVIDIA H200"]) == Exit.USAGE
    assert main(["compile", "--op", "retention", "--arch", "sm_90", "--out", "a", "--resume", "b"]) == Exit.USAGE
    capsys.readouterr()
    assert main(["compile", "--op", "retention", "--arch", "sm_90", "--out", f"{__file__}/run"]) == Exit.USAGE
    assert "is no folder, and none can be made there; name another place" in capsys.readouterr().err
    assert main(["compile", "--op", "gru", "--arch", "sm_90"]) == Exit.USAGE
    assert "no selected implementation has Triton kernels for a GPU" in capsys.readouterr().err


def test_kernels_of_another_cache_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Ahead(Case("retention", "triton_chunk", SHAPE), "sm_90")
    keys = set()
    for folder in ("/one", "/two"):
        monkeypatch.setenv("TRITON_CACHE_DIR", folder)
        keys.add(Keys().of("ahead", task).name)
    assert len(keys) == 2


def test_the_calls_of_a_case() -> None:
    """Gradients are checked at a length that the oracle can go."""
    forward, short = Problem(T=2 * BACKWARD_T), Problem(T=BACKWARD_T, pass_="bwd")
    assert calls_of(forward, "timed") == calls_of(forward, "check") == [forward]
    assert calls_of(short, "timed") == [short.replace(pass_="fwdbwd"), short]
    assert calls_of(short, "check") == [short.replace(pass_="fwdbwd")]
    long = forward.replace(pass_="fwdbwd")
    assert calls_of(long, "timed") == [long.replace(T=BACKWARD_T), long]
    assert calls_of(long, "check") == [long.replace(T=BACKWARD_T)]


# Ours and FLA's: gradients beyond the length at which they are checked, packed sequences of odd lengths, decode.
LIBRARY = [
    ("linear_attention", "triton_chunk", Problem(B=1, T=200, H=2, K=64)),
    ("gated_delta_rule", "triton_chunk", Problem(B=1, T=2 * BACKWARD_T, H=2, K=64, pass_="fwdbwd")),
    ("delta_rule", "triton_chunk", Problem(B=1, T=1000, H=2, K=64, pass_="bwd", layout="packed:ragged")),
    ("selective_scan", "triton_chunk", Problem(B=1, T=500, H=64, K=16, V=1, pass_="fwdbwd")),
    ("attention_decode", "triton_split", Problem(B=2, T=256, H=4, K=64, pass_="decode")),
    ("retention", "fla_chunk", Problem(B=1, T=200, H=2, K=64)),
]


@pytest.mark.long
def test_the_librarys_kernels_are_found(run: Path) -> None:
    from suite.discovery import discover
    from suite.problem import Case
    from suite.static.ahead import Wanted, compile_cases
    from suite.static.stub_driver import target_of

    registry, wanted = discover(), []
    for name, implementation, problem in LIBRARY:
        operator = registry.operator(name)
        if implementation not in operator.implementations:
            pytest.skip(f"{name}/{implementation} is not installed")
        tunables = tuple(operator.implementations[implementation].default_tunables.items())
        wanted.append(Case(name, implementation, operator.complete(problem), tunables, operator.axes))
    cache = folder_of(run)
    summary = compile_cases(registry, [Wanted(each) for each in wanted], target_of("sm_90"), folder=cache, jobs=2)
    assert (summary.failures, summary.uncovered) == ([], [])
    found = launch(
        cache, [[each.operator, each.implementation, each.problem.columns(), dict(each.tunables)] for each in wanted]
    )
    assert found["misses"] == []
    assert len(found["hits"]) > len(wanted)
