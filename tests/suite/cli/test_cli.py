"""The command line: help that answers at once, and one clear line for each wrong word."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from suite.cli import COMMANDS, main
from suite.discovery import ROOT
from tests.suite.plugins import BROKEN, RUNNING_MEAN, write


def run(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(list(words))
    done = capsys.readouterr()
    return code, done.out, done.err


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_imports_nothing_heavy(command: str) -> None:
    code = f"""
import sys
from suite.cli import main
try:
    main({[*([command] if command else []), "--help"]!r})
except SystemExit as end:
    assert end.code == 0
heavy = {{"torch", "triton", "numpy", "pandas", "scipy", "matplotlib", "plotly", "jinja2", "rich"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "usage: subquad" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bench", "--op", "linear_atention"], "unknown operator 'linear_atention'; did you mean 'linear_attention'?"),
        (["bench", "--impl", "triton_chnk"], "unknown implementation 'triton_chnk'; did you mean 'triton_chunk'?"),
        (["bench", "--dtype", "bf61"], "unknown dtype 'bf61'; did you mean 'bf16'?"),
        (["bench", "--pass", "forward"], "unknown pass 'forward'"),
        (["bench", "--preset", "smok"], "unknown preset 'smok'; did you mean 'smoke'?"),
        (["bench", "--preset", "nowhere.toml"], "preset file nowhere.toml does not exist"),
        (["bench", "--seq-len", "0"], "'0' is not a size"),
        (["bench", "--seq-len", "-5"], "'-5' is not a size"),
        (["bench", "--heads", "two"], "'two' is not a size"),
        (["bench", "--head-dim", "64x0"], "'64x0' is not a head dim; write K or KxV"),
        (["bench", "--shape", "T=8,Q=3"], "unknown axis in --shape 'Q'"),
        (["bench", "--shape", "T=0"], "'0' is not a size"),
        (["bench", "--shape", "T=8", "--seq-len", "16"], "T is given by --shape and by its own flag"),
        (["bench", "--chunk", "48"], "chunk must be a power of two >= 16, got 48"),
        (["bench", "--axis", "causal"], "--axis causal: write NAME=VALUE"),
        (["bench", "--axis", "casual=true"], "did you mean 'causal'"),
        (["bench", "--device", "cuda"], "no CUDA device here"),
        (["bench", "--device", "tpu"], "invalid choice: 'tpu'"),
        (["bench", "--budget", "soon"], "--budget soon: not a duration"),
        (["bench", "--shard", "3/2"], "--shard 3/2: write I/N"),
        (["bench", "--shard", "two"], "--shard two: write I/N"),
        (["bench", "--shard", "999/1000"], "use fewer parts"),
        (["bench", "--shard", "1/99999"], "use fewer parts"),
        (["bench", "--launches", "0"], "'0' is not a count"),
        (["bench", "--mode", "cold-event"], "unknown mode on cpu 'cold-event'"),
        (["bench", "--load", "nowhere.py"], "nowhere.py: no such file"),
        (["bench", "--resume", "nowhere", "--out", "here"], "--resume continues the run it names"),
        (["bench", "--frobnicate"], "unrecognized arguments: --frobnicate; see 'subquad bench --help'"),
        (["banch"], "invalid choice: 'banch'"),
        (["report", "nowhere"], "nowhere"),
        (["compare", "nowhere", "here"], "nowhere"),
        (["gate", "--baseline", "nowhere", "--candidate", "here"], "nowhere"),
        (["export", "nowhere", "--to", "csv"], "nowhere"),
        (["bench", "--resume", "nowhere"], "nowhere"),
        (["new-kernel", "Not-A-Name"], "snake_case"),
    ],
)
def test_wrong_words(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(*words, capsys=capsys)
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1, err
    assert not out


def test_memory_that_is_gone_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("suite.discovery.discover", gone)
    code, _, err = run("bench", "--batch", "2000000000", "--out", str(tmp_path / "run"), capsys=capsys)
    assert code == 2
    assert err.splitlines() == [err.strip()]
    assert "too little memory" in err


def test_broken_plugin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run("list", "--load", str(write(tmp_path, BROKEN, "cli_broken.py")), capsys=capsys)
    assert code == 2
    assert "raises on import: RuntimeError: half a plug-in" in err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_output_that_the_terminal_cannot_show_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """Operators, reasons and reports may hold any character; a terminal's encoding may lack it."""
    shown = {}
    for name in ("stdout", "stderr"):
        shown[name] = io.BytesIO()
        monkeypatch.setattr(sys, name, io.TextIOWrapper(shown[name], encoding=encoding, write_through=True))
    plugin = write(tmp_path, RUNNING_MEAN.replace("o_t = mean", "\u2211 o_t = \u00f8 mean"), "wide_plugin.py")
    words = ["list", "--load", str(plugin), "--op"]
    assert main([*words, "running_mean"]) == 0
    assert "\u2211 o_t = \u00f8 mean".encode(encoding, errors="replace") in shown["stdout"].getvalue()
    assert main([*words, "\u2211"]) == 2
    assert "unknown operator '\u2211'".encode(encoding, errors="replace") in shown["stderr"].getvalue()


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run("list", capsys=capsys)
    assert code == 0
    assert "linear_attention\ttriton_chunk\tours" in out
    assert "flash-attn is not installed: pip install" in out or "flash_attn_2\tpeer" in out
    assert "kimi-linear" in out
    code, out, _ = run("list", "--op", "linear_attention", capsys=capsys)
    assert "Katharopoulos" in out
    assert "axis feature_map: identity, relu, elu1" in out


def test_list_json(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    code, out, _ = run("list", "--json", capsys=capsys)
    assert code == 0
    names = {op["name"] for op in json.loads(out)["operators"]}
    assert {"softmax_attention", "linear_attention"} <= names


def test_plan_is_shown_without_measuring(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "--preset", "smoke", "--op", "linear_attention", "--impl", "naive", "--pass", "fwd"]
    code, out, _ = run(*words, "--list", "--out", str(tmp_path / "run"), capsys=capsys)
    assert (code, out.strip()) == (0, "linear_attention/naive/B1_T64_H2_K32_V32_fp32_fwd")
    code, out, _ = run(*words, "--dry-run", "--launches", "2", "--out", str(tmp_path / "run"), capsys=capsys)
    assert code == 0
    assert out.startswith("1 cases of 1 problems, 2 launch(es)\nabout ")
    assert not (tmp_path / "run").exists()


def test_head_dim_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "--preset", "smoke", "--op", "linear_attention", "--impl", "naive", "--pass", "fwd", "--list"]
    code, out, _ = run(*words, "--head-dim", "64,32x16", capsys=capsys)
    assert code == 0
    assert out.split() == [
        "linear_attention/naive/B1_T64_H2_K32_V16_fp32_fwd",
        "linear_attention/naive/B1_T64_H2_K64_V64_fp32_fwd",
    ]


def test_an_implementation_of_another_operator_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--op", "linear_attention", "--impl", "softmax_attention/naive", "--list"]
    code, _, err = run("bench", *words, capsys=capsys)
    assert code == 2
    assert (
        "--impl softmax_attention/naive is not an implementation of the operators that --op or the preset selects"
        in err
    )


def test_list_takes_several_operators(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run("list", "--op", "retention,lstm", capsys=capsys)
    assert code == 0
    assert [line.partition(":")[0] for line in out.splitlines() if line.startswith(("retention:", "lstm:"))] == [
        "retention",
        "lstm",
    ]


def test_shapes_vary_together(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "--preset", "smoke", "--op", "linear_attention", "--impl", "naive", "--pass", "fwd", "--list"]
    code, out, _ = run(*words, "--shape", "T=64,H=4,K=16", "--shape", "T=32,H=1,K=32,V=64", capsys=capsys)
    assert code == 0
    assert out.split() == [
        "linear_attention/naive/B1_T32_H1_K32_V64_fp32_fwd",
        "linear_attention/naive/B1_T64_H4_K16_V16_fp32_fwd",
    ]


def test_shards_are_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "--preset", "cpu", "--list"]
    _, whole, _ = run(*words, capsys=capsys)
    parts = [run(*words, "--shard", f"{i}/2", capsys=capsys)[1].split() for i in (1, 2)]
    assert sorted(whole.split()) == sorted(case for part in parts for case in part)
    for part in parts:
        lengths = {int(case.split("_T")[1].split("_")[0]) for case in part}
        assert min(lengths) == 128
        assert max(lengths) >= 4096
